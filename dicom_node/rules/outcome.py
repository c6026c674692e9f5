"""Decisions about a series: skip it, or denoise it with a work order."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.settings import Settings
from dicom_node.work_order import WorkOrder


@dataclass(frozen=True)
class Skip:
    """Skip the series.

    Attributes:
        reason: Reason for the operator.
        rule: Name of the rule that decides so; empty for none.
    """

    reason: str
    rule: str = ""


Decision = Skip | WorkOrder


def default_order(settings: Settings) -> WorkOrder:
    """Return the order for a series in scope that no rule matches."""
    return WorkOrder(
        model=settings.model.name,
        strength=settings.model.strength,
        dose_gain=settings.model.dose_gain,
        target_noise_hu=settings.model.target_noise_hu,
        destinations=settings.destinations,
    )

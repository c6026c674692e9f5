"""Decisions about a series: skip it, or denoise it with a work order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from dicom_node.settings import Settings

Incomplete = Literal["skip", "denoise"]
"""Treatment of a series with missing slices."""


class Priority(IntEnum):
    """Order of jobs; the lowest number goes first."""

    URGENT = 0
    NORMAL = 1
    OFF_PEAK = 2


@dataclass(frozen=True)
class Skip:
    """Skip the series.

    Attributes:
        reason: Reason for the operator.
        rule: Name of the rule that decides so; empty for none.
    """

    reason: str
    rule: str = ""


@dataclass(frozen=True)
class Denoise:
    """Denoise the series.

    Attributes:
        model: Name of the denoiser.
        strength: 0 (untouched) to 1 (the model's full result).
        destinations: Names of the peers that get the derived series.
        priority: Order among waiting jobs.
        incomplete: Treatment of a series with missing slices.
        rule: Name of the rule that decides so; empty for none.
    """

    model: str
    strength: float
    destinations: tuple[str, ...]
    priority: Priority = Priority.NORMAL
    incomplete: Incomplete = "skip"
    rule: str = ""


Decision = Skip | Denoise


def default_work(settings: Settings) -> Denoise:
    """Return the work on a series in scope that no rule matches."""
    return Denoise(
        model=settings.model.name,
        strength=settings.model.strength,
        destinations=settings.destinations,
    )

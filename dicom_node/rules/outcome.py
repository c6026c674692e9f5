"""What a rule decides: to leave a series alone, or which work is done on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from dicom_node.settings import Settings

Incomplete = Literal["skip", "denoise"]
"""What becomes of a series of which slices are missing."""


class Priority(IntEnum):
    """Order of jobs; the lowest number goes first."""

    URGENT = 0
    NORMAL = 1
    OFF_PEAK = 2


@dataclass(frozen=True)
class Skip:
    """Leave the series alone.

    Attributes:
        reason: Why, for the operator.
        rule: Name of the rule that says so; empty when none does.
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
        priority: When its turn comes.
        incomplete: What to do when slices are missing.
        rule: Name of the rule that says so; empty when none does.
    """

    model: str
    strength: float
    destinations: tuple[str, ...]
    priority: Priority = Priority.NORMAL
    incomplete: Incomplete = "skip"
    rule: str = ""


Decision = Skip | Denoise


def default_work(settings: Settings) -> Denoise:
    """The work on a series that no rule names and nothing speaks against."""
    return Denoise(
        model=settings.model.name,
        strength=settings.model.strength,
        destinations=settings.destinations,
    )

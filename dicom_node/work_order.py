"""Work orders: the denoising that is to be done for a series, as rules decide and jobs keep it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

Incomplete = Literal["skip", "denoise"]
"""Treatment of a series with missing slices."""

AUTO: Final = "auto"
"""Dose gain that follows from the noise that the site's full-dose series have."""

DoseGain = float | Literal["auto"] | None
"""A dose gain as it is ordered; None: the default of the model's card."""


class Priority(IntEnum):
    """Order of jobs; the lowest number goes first."""

    URGENT = 0
    NORMAL = 1
    OFF_PEAK = 2
    """Claimed only in the hours of `off_peak`."""


@dataclass(frozen=True)
class WorkOrder:
    """Denoise a series.

    Attributes:
        model: Name of the denoiser.
        strength: 0 (untouched) to 1 (the model's full result).
        dose_gain: Noise to leave, as if from so many times the dose; ``AUTO``: it follows from the
            noise reference when the series is read; None: the default of the model's card, unless
            a noise is wanted.
        target_noise_hu: Noise to leave in soft tissue, HU, from which the dose gain follows when
            the series is read; None: none is wanted.
        destinations: Names of the peers that get the derived series.
        priority: Place in the queue.
        incomplete: Treatment of the series when slices are missing.
        rule: Name of the rule that ordered it; empty for the default.
        remark: Reason that the series keeps, such as what is left out; empty for none.
    """

    model: str
    strength: float
    destinations: tuple[str, ...]
    priority: Priority = Priority.NORMAL
    incomplete: Incomplete = "skip"
    rule: str = ""
    remark: str = ""
    dose_gain: DoseGain = None
    target_noise_hu: float | None = None


@dataclass(frozen=True)
class MeasuredGain:
    """The dose gain that a series gets by its own noise.

    Attributes:
        gain: At least 1.
        basis: How it follows, or why it is the default of the model's card; a phrase for people.
    """

    gain: float
    basis: str


def fixed_gain(ordered: DoseGain) -> float | None:
    """Return the number that is ordered; None where the card or the series decides."""
    return None if ordered == AUTO else ordered

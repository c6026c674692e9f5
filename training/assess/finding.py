"""What an assessment measures, against the limits a model must keep."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """The interval within which a figure must lie; its ends count."""

    lowest: float
    highest: float

    def holds(self, value: float) -> bool:
        """Whether a figure keeps to it."""
        return self.lowest <= value <= self.highest

    def __str__(self) -> str:
        if self.lowest == self.highest:
            return f"{self.highest:g}"
        if self.lowest == -self.highest:
            return f"±{self.highest:g}"
        if self.lowest == 0.0:
            return f"≤ {self.highest:g}"
        return f"{self.lowest:g} to {self.highest:g}"


BIAS_HU = Limit(-1.0, 1.0)
"""Mean HU of result minus full dose within a tissue: what a scanner's own constancy test allows is
several times as much."""

FULL_DOSE_CHANGE = Limit(0.0, 0.5)
"""What becomes of full dose, in units of its own noise: it has nothing that must go."""

LESIONS = Limit(0.0, 0.0)
"""Lesions of at least 5 mm and 40 HU that may be lost, and that may be invented."""

NOISE_PEAK = Limit(0.85, 1.15)
"""Peak frequency of the noise over that of full dose: beyond it readers see plastic or grit."""

BETWEEN_SLICES = Limit(0.8, 1.2)
"""Energy of what changes between slices over that of full dose: beyond it slices flicker, below it
they smear."""


@dataclass(frozen=True)
class Finding:
    """One measured figure.

    Attributes:
        quantity: What was measured.
        subject: On what: split, dose, real or simulated.
        value: Of the model; NaN where there was nothing to measure.
        low_dose: Of the untouched low dose; None where that says nothing.
        limit: What the value must keep to; None for a figure that only informs.
        note: Circumstances, such as the worst case.
    """

    quantity: str
    subject: str
    value: float
    low_dose: float | None = None
    limit: Limit | None = None
    note: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the limit is kept; None without a limit or without a measurement."""
        if self.limit is None or math.isnan(self.value):
            return None
        return self.limit.holds(self.value)

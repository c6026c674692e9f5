"""Findings of an assessment and the limits of a model."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """Closed interval within which a value must lie."""

    lowest: float
    highest: float

    def holds(self, value: float) -> bool:
        """Whether a value is within the limit."""
        return self.lowest <= value <= self.highest

    def __str__(self) -> str:
        if self.lowest == self.highest:
            return f"{self.highest:g}"
        if self.lowest == -self.highest:
            return f"±{self.highest:g}"
        if math.isinf(self.highest):
            return f"≥ {self.lowest:.3g}"
        if self.lowest == 0.0:
            return f"≤ {self.highest:g}"
        return f"{self.lowest:g} to {self.highest:g}"


BIAS_HU = Limit(-1.0, 1.0)
"""Mean HU of result minus full dose within a tissue; the constancy test of a scanner allows several
times as much."""

PATIENT_BIAS_HU = Limit(0.0, 1.0)
"""Bias of a patient, without its sign, in the mean over the patients: biases of opposite sign
vanish in a mean over all, while each patient has one of them."""

PATIENT_BIAS_BONE_HU = Limit(0.0, 2.0)
"""The same in bone, whose edges any change of sharpness moves."""

FULL_DOSE_CHANGE = Limit(0.0, 0.5)
"""Change of full dose as input, in units of its own noise: nothing must be removed from it."""

LESIONS = Limit(0.0, 0.0)
"""Number of lesions of at least 5 mm and 40 HU that may be lost, or invented."""

MEDIAN_CONTRAST = Limit(0.9, 1.1)
"""Share of the contrast of inserted lesions that remains, in the median: less hides what is faint,
more exaggerates it."""

MIN_CONTRAST = Limit(0.7, math.inf)
"""The same of the lesion that fares worst."""

NOISE_PEAK = Limit(0.85, 1.15)
"""Peak frequency of the noise over that of full dose; outside, images look plastic or gritty."""

BETWEEN_SLICES = Limit(0.8, 1.2)
"""Energy of the difference of neighbouring slices over that of full dose: above it slices flicker,
below it they are blurred."""


Interval = tuple[float, float]
"""Confidence interval of a value, 95 %."""


@dataclass(frozen=True)
class Finding:
    """One measured value.

    Attributes:
        quantity: Measured quantity.
        subject: Data it was measured on: split, dose, real or simulated.
        value: Value of the model; NaN if there was nothing to measure.
        low_dose: Value of the untouched low dose; None if meaningless.
        limit: Limit of the value; None if it is for information only.
        note: Circumstances, such as the worst case.
        full_dose: Value of full dose; None if meaningless or not measured.
        interval: Confidence interval of the value; None if not known.
        low_dose_interval: The same of the low dose.
        full_dose_interval: The same of full dose.
    """

    quantity: str
    subject: str
    value: float
    low_dose: float | None = None
    limit: Limit | None = None
    note: str = ""
    full_dose: float | None = None
    interval: Interval | None = None
    low_dose_interval: Interval | None = None
    full_dose_interval: Interval | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the limit is met; None without a limit or without a measurement."""
        if self.limit is None or math.isnan(self.value):
            return None
        return self.limit.holds(self.value)

"""Facts about a series that a model may use, and the noise that is wanted; never an identifier."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Condition:
    """Acquisition facts of one series and the noise that is wanted; None where it is not stated.

    Attributes:
        anatomy: Body region, as in Body Part Examined (0018,0015), for example ``CHEST``.
        kernel: Convolution kernel, for example ``B30f``.
        kvp: Tube voltage, kV.
        mas: Tube current time product, mAs.
        thickness_mm: Slice thickness, mm.
        dose: Fraction of the site's full dose, 0 to 1.
        dose_gain: Noise to leave, as if from so many times the dose; 1: leave the image as it is.
            None: the default of the model's card.
    """

    anatomy: str | None = None
    kernel: str | None = None
    kvp: float | None = None
    mas: float | None = None
    thickness_mm: float | None = None
    dose: float | None = None
    dose_gain: float | None = None

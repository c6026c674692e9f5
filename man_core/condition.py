"""Acquisition facts that a model may use; never an identifier."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Condition:
    """Acquisition facts of one series; None where the header does not state them.

    Attributes:
        anatomy: Body region, as in Body Part Examined (0018,0015), for example ``CHEST``.
        kernel: Convolution kernel, for example ``B30f``.
        kvp: Tube voltage, kV.
        mas: Tube current time product, mAs.
        thickness_mm: Slice thickness, mm.
        dose: Fraction of the site's full dose, 0 to 1.
    """

    anatomy: str | None = None
    kernel: str | None = None
    kvp: float | None = None
    mas: float | None = None
    thickness_mm: float | None = None
    dose: float | None = None

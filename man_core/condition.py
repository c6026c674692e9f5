"""What a model may know of a scan; never an identifier."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Condition:
    """Acquisition facts of one series; None where the header is silent.

    Attributes:
        anatomy: Body region as DICOM's Body Part Examined names it, for example ``CHEST``.
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

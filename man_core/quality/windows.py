"""Display windows and tissue intervals in HU, and the mapping of a window to [0, 1]."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Window: TypeAlias = tuple[float, float]
"""Lowest and highest HU of a display window or a tissue."""


def dicom_window(centre: float, width: float) -> Window:
    """Return the HU interval of a linear DICOM window (PS3.3 C.11.2.1.2.1).

    Args:
        centre: Window Center (0028,1050), HU.
        width: Window Width (0028,1051), HU, at least 1.

    Raises:
        ValueError: The width is less than 1.
    """
    if width < 1:
        raise ValueError(f"A window is at least 1 HU wide, got {width}.")
    half = (width - 1.0) / 2.0
    return centre - 0.5 - half, centre - 0.5 + half


SOFT_TISSUE: Window = (-160.0, 240.0)
"""Centre 40, width 400, plain edges: the window of the published tables."""

LUNG: Window = (-1350.0, 150.0)
"""Centre -600, width 1500, plain edges."""

CHEST_EXAM: Window = dicom_window(-600.0, 1500.0)
ABDOMEN_EXAM: Window = dicom_window(50.0, 400.0)
HEAD_EXAM: Window = dicom_window(40.0, 80.0)
"""Per-exam windows of ldct-benchmark (Eulig 2024): -1350..149, -150..249 and 0..79 HU."""

TISSUES: dict[str, Window] = {
    "air": (-1100.0, -950.0),
    "lung": (-950.0, -500.0),
    "fat": (-150.0, -50.0),
    "soft tissue": (0.0, 120.0),
    "bone": (250.0, 2000.0),
}
"""Tissues of the HU bias; values between them are partial volume and belong to none."""


def to_unit(hu: NDArray[np.floating], window_hu: Window) -> NDArray[np.float64]:
    """Clip HU to the window and map its edges to 0 and 1.

    Raises:
        ValueError: The lower edge is not below the upper one.
    """
    low, high = window_hu
    if not low < high:
        raise ValueError(f"A window must rise, got {low} to {high} HU.")
    return (np.clip(np.asarray(hu, dtype=np.float64), low, high) - low) / (high - low)

"""Flips and quarter turns of a crop, and where its corners come to lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
SYMMETRIES = 8  # flip (2) x quarter turns (4)


def transform(crop: Pixels, symmetry: int) -> Pixels:
    """One of the eight symmetries of the square of a crop [row, column]."""
    turned = np.rot90(crop, symmetry % 4)
    return turned[:, ::-1] if symmetry >= 4 else turned


def transform_position(
    position: tuple[float, float, float, float], symmetry: int
) -> tuple[float, float, float, float]:
    """(top, left, bottom, right), fractions of the slice, of the crop in the transformed slice."""
    top, left, bottom, right = position
    for _ in range(symmetry % 4):  # np.rot90: column c becomes row 1 - c, row r becomes column r
        top, left, bottom, right = 1 - right, top, 1 - left, bottom
    if symmetry >= 4:
        left, right = 1 - right, 1 - left
    return top, left, bottom, right

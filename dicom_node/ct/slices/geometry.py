"""Slice geometry: order along the normal, spacing, and the affine to LPS millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

DIRECTION_TOLERANCE: Final = 1e-3
"""Direction cosines closer than this are equal (headers round to 4 to 6 digits)."""

POSITION_TOLERANCE_MM: Final = 0.01
"""Slices closer than this along the normal share one position."""

SPACING_TOLERANCE: Final = 0.1
"""Distances within this fraction of each other are equal (headers round, tables drift)."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices ordered along their normal.

    Attributes:
        order: For each position in the stack, the index of the slice as given.
        spacing_mm: (slice, row, column); slice is the mean distance of neighbours.
        affine: [4, 4] index (slice, row, column, 1) to LPS mm; exact where ``regular``.
        regular: Whether all neighbours lie at the same distance.
    """

    order: tuple[int, ...]
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]
    regular: bool


def normal_of(orientation: Sequence[float]) -> NDArray[np.float64]:
    """Return the unit normal of Image Orientation (Patient): row × column (PS3.3 C.7.6.2).

    Raises:
        ValueError: The two directions are not perpendicular unit vectors.
    """
    row, column = np.reshape(np.asarray(orientation, dtype=np.float64), (2, 3))
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.allclose((*lengths, row @ column + 1), 1, atol=1e-2):
        raise ValueError("the row and column directions are not perpendicular unit vectors")
    normal: NDArray[np.float64] = np.cross(row, column)
    return normal / np.linalg.norm(normal)


def places_along(
    positions_mm: NDArray[np.float64], orientation: Sequence[float]
) -> NDArray[np.float64]:
    """Project Image Position (Patient) [slice, 3] onto the normal: positions [slice], mm."""
    places: NDArray[np.float64] = positions_mm @ normal_of(orientation)
    return places


def stack(
    positions_mm: NDArray[np.float64],
    orientation: Sequence[float],
    pixel_spacing_mm: tuple[float, float],
    fallback_mm: float,
) -> Stack:
    """Order slices along their common normal.

    Args:
        positions_mm: Image Position (Patient) [slice, 3]; slices of one position keep their order.
        orientation: Image Orientation (Patient), six direction cosines.
        pixel_spacing_mm: Distance between (rows, columns).
        fallback_mm: Slice spacing of a single slice, where none can be measured.

    Example:
        >>> positions = np.array([[0.0, 0.0, 5.0], [0.0, 0.0, 0.0], [0.0, 0.0, 2.5]])
        >>> slices = stack(positions, (1, 0, 0, 0, 1, 0), (0.7, 0.7), fallback_mm=1.0)
        >>> slices.order, slices.spacing_mm, slices.regular
        ((1, 2, 0), (2.5, 0.7, 0.7), True)
    """
    places = places_along(positions_mm, orientation)
    order = np.argsort(places, kind="stable")
    distances = np.diff(places[order])
    ends = positions_mm[order[0]], positions_mm[order[-1]]
    several = places[order[-1]] - places[order[0]] > POSITION_TOLERANCE_MM
    step = (ends[1] - ends[0]) / len(distances) if several else normal_of(orientation) * fallback_mm
    return Stack(
        order=tuple(int(index) for index in order),
        spacing_mm=(float(np.linalg.norm(step)), *pixel_spacing_mm),
        affine=_affine(ends[0], step, orientation, pixel_spacing_mm),
        regular=not distances.size or _is_even(distances),
    )


def _is_even(distances_mm: NDArray[np.float64]) -> bool:
    usual = float(np.median(distances_mm))
    return bool(np.all(np.abs(distances_mm - usual) <= SPACING_TOLERANCE * usual))


def _affine(
    origin_mm: NDArray[np.float64],
    step_mm: NDArray[np.float64],
    orientation: Sequence[float],
    pixel_spacing_mm: tuple[float, float],
) -> NDArray[np.float64]:
    along_row, along_column = np.reshape(np.asarray(orientation, dtype=np.float64), (2, 3))
    affine = np.eye(4)
    affine[:3, 0] = step_mm
    # The row index grows along the column direction, by the distance of rows (PS3.3 C.7.6.2.1.1).
    affine[:3, 1] = along_column * pixel_spacing_mm[0]
    affine[:3, 2] = along_row * pixel_spacing_mm[1]
    affine[:3, 3] = origin_mm
    return affine

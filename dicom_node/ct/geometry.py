"""Where slices lie: order along the normal, spacing, holes, and the affine to LPS millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SAME_DIRECTION: Final = 1e-3
"""Direction cosines closer than this are the same orientation (headers round to 4 to 6 digits)."""

SAME_POSITION_MM: Final = 0.01
"""Slices closer than this along the normal lie at one position."""

SAME_SPACING: Final = 0.1
"""Distances within this fraction of each other are one spacing (headers round, tables drift)."""

HOLE_FROM: Final = 1.5
"""At least this many spacings between two slices of a regular series mean a missing slice."""


@dataclass(frozen=True)
class Hole:
    """Slices are missing after slice ``after`` (sorted); the next lies ``distance_mm`` on."""

    after: int
    distance_mm: float


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order.

    Attributes:
        order: For each place in the stack, the index of the slice as it was given.
        spacing_mm: (slice, row, column); slice is the mean distance of neighbours.
        affine: [4, 4] index (slice, row, column, 1) to LPS mm; exact where ``regular``.
        regular: Every distance between neighbours is the same spacing.
        usual_mm: The spacing that at least half of the distances share; None where there is none.
        holes: Distances that are several times ``usual_mm``.
    """

    order: tuple[int, ...]
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]
    regular: bool
    usual_mm: float | None
    holes: tuple[Hole, ...]


def normal_of(orientation: Sequence[float]) -> NDArray[np.float64]:
    """Unit normal of Image Orientation (Patient): row × column direction (PS3.3 C.7.6.2).

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
    """Place of each slice along the normal, mm [slice], of Image Position (Patient) [slice, 3]."""
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
        positions_mm: Image Position (Patient) [slice, 3], all different along the normal.
        orientation: Image Orientation (Patient), six direction cosines.
        pixel_spacing_mm: Distance of (rows, columns).
        fallback_mm: Slice spacing of a single slice, where none can be measured.
    """
    places = places_along(positions_mm, orientation)
    order = np.argsort(places)
    distances = np.diff(places[order])
    usual = usual_distance(distances)
    ends = positions_mm[order[0]], positions_mm[order[-1]]
    step = (
        (ends[1] - ends[0]) / len(distances)
        if distances.size
        else normal_of(orientation) * fallback_mm
    )
    return Stack(
        order=tuple(int(index) for index in order),
        spacing_mm=(float(np.linalg.norm(step)), *pixel_spacing_mm),
        affine=_affine(ends[0], step, orientation, pixel_spacing_mm),
        regular=not distances.size or bool(usual and np.all(_alike(distances, usual))),
        usual_mm=usual,
        holes=holes_in(distances, usual),
    )


def usual_distance(distances_mm: NDArray[np.float64]) -> float | None:
    """The distance that at least half of all neighbours share; the smallest if several do."""
    shared = [int(np.count_nonzero(_alike(distances_mm, one))) for one in distances_mm]
    if not shared or 2 * max(shared) < len(shared):
        return None
    most = [one for one, count in zip(distances_mm, shared, strict=True) if count == max(shared)]
    return float(min(most))


def holes_in(distances_mm: NDArray[np.float64], usual_mm: float | None) -> tuple[Hole, ...]:
    """Where a whole number of slices is missing from an otherwise regular series.

    A distance that is not a multiple of the usual one is a change of spacing, which scanners make,
    and no hole; a series without a usual distance (a sample of slices) has no holes.
    """
    if usual_mm is None:
        return ()
    ratios = distances_mm / usual_mm
    missing = (ratios >= HOLE_FROM) & (np.abs(ratios - np.round(ratios)) <= SAME_SPACING)
    return tuple(Hole(int(after), float(distances_mm[after])) for after in np.flatnonzero(missing))


def _alike(distances_mm: NDArray[np.float64], one_mm: float) -> NDArray[np.bool_]:
    return np.abs(distances_mm - one_mm) <= SAME_SPACING * one_mm


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

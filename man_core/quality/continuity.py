"""Continuity between neighbouring slices: energy of their difference relative to full dose."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from man_core.noise import noise_hu_per_slice

Hu = NDArray[np.floating]

BODY_HU = -400.0
"""Local mean above which a pixel is body: skin and walls, which enclose the lungs."""

BODY_PIXELS = 7
"""Side of the square over which that mean is taken."""

COARSE_MM = 8.0
"""Side of the squares over which noise averages out while jumps in brightness remain."""


@dataclass(frozen=True)
class BetweenSlices:
    """Between-slice difference energy of a result over that of the full dose; 1 is ideal.

    Attributes:
        energy: Ratio for the images as they are. It includes noise: a result with less noise than
            full dose is below 1 without being worse.
        compensated: Ratio after subtraction of twice the noise variance of each image; NaN if only
            noise remains of the full dose. Where slices overlap, their noise is correlated and too
            much is subtracted from both.
        coarse: Ratio for differences averaged over 8 mm: anatomy and flicker, hardly any noise.
            Above 1, slices jump in brightness more than the anatomy does.
    """

    energy: float
    compensated: float
    coarse: float


def body(hu: Hu) -> NDArray[np.bool_]:
    """Return the mask of the patient [slice, row, column]: between skin along rows and columns."""
    half = BODY_PIXELS // 2
    padded = np.pad(hu, ((0, 0), (half, half), (half, half)), mode="edge")
    solid = _box_means(padded, BODY_PIXELS) > BODY_HU
    return _between(solid, axis=1) & _between(solid, axis=2)


def between_slice_energy(hu: Hu, within: NDArray[np.bool_]) -> float:
    """Compute the mean square difference of neighbouring slices, HU^2.

    Args:
        hu: Contiguous slices [slice, row, column], HU.
        within: Mask [slice, row, column]; pixels count where both neighbours are True.
    """
    both = within[1:] & within[:-1]
    difference = np.diff(hu.astype(np.float64), axis=0)
    return float(np.mean(difference[both] ** 2)) if both.any() else math.nan


def between_slices(result: Hu, full: Hu, pixel_mm: float) -> BetweenSlices:
    """Compare the between-slice difference energy of a result with that of the full dose.

    Args:
        result: Contiguous slices [slice, row, column], HU.
        full: Full dose of the same shape; it defines the body.
        pixel_mm: Side of a pixel.

    Raises:
        ValueError: The shapes differ or there is only one slice.
    """
    if result.shape != full.shape or len(full) < 2:
        raise ValueError(f"Slices of shapes {result.shape} and {full.shape} cannot be compared.")
    within = body(full)
    side = max(1, round(COARSE_MM / pixel_mm))
    inner = _box_means(within.astype(np.float64), side) > 1.0 - 0.5 / side**2
    own, true = (between_slice_energy(hu, within) for hu in (result, full))
    coarse = [between_slice_energy(_box_means(hu, side), inner) for hu in (result, full)]
    return BetweenSlices(
        energy=_ratio(own, true),
        compensated=_ratio(own - _noise_energy(result), true - _noise_energy(full)),
        coarse=_ratio(*coarse),
    )


def _noise_energy(hu: Hu) -> float:
    """Compute the energy of independent noise of this level, HU^2."""
    variance = noise_hu_per_slice(hu) ** 2
    return float(np.mean(variance[1:] + variance[:-1]))


def _ratio(own: float, true: float) -> float:
    return own / true if true > 0.0 else math.nan


def _box_means(hu: Hu, side: int) -> NDArray[np.float64]:
    """Compute means over complete squares within each slice."""
    down = sliding_window_view(hu, side, axis=1).mean(axis=-1, dtype=np.float64)
    return np.asarray(sliding_window_view(down, side, axis=2).mean(axis=-1), dtype=np.float64)


def _between(solid: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Fill from the first to the last True along an axis."""
    since = np.logical_or.accumulate(solid, axis=axis)
    until = np.flip(np.logical_or.accumulate(np.flip(solid, axis), axis=axis), axis)
    between: NDArray[np.bool_] = since & until
    return between

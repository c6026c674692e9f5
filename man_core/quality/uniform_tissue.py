"""Uniform soft tissue, in which lesions can be inserted and noise measured without anatomy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from man_core.noise import SOFT_TISSUE_HU

UNIFORM_MM = 3.0
"""Side of the squares over whose means uniformity is judged."""

UNIFORM_SPREAD_HU = 80.0
"""Maximum difference of such means in uniform tissue, noise included: less than between muscle and
fat, or between an organ and a contrast-enhanced vessel."""


def uniform_tissue(
    hu: NDArray[np.floating], pixel_mm: float, reach_pixels: int
) -> NDArray[np.bool_]:
    """Find pixels around which everything is uniform soft tissue.

    Args:
        hu: One slice [row, column], HU.
        pixel_mm: Side of a pixel.
        reach_pixels: Half side of the square that must be uniform; pixels closer to the edge of the
            image do not count.

    Returns:
        Mask [row, column].
    """
    found = np.zeros(hu.shape, dtype=np.bool_)
    side = max(1, round(UNIFORM_MM / pixel_mm))
    width = max(1, 2 * reach_pixels + 2 - side)
    if min(hu.shape) < max(side + width - 1, 2 * reach_pixels + 1):
        return found
    mean = sliding_window_view(hu, (side, side)).mean(axis=(2, 3), dtype=np.float64)
    highest, lowest = _extreme(mean, width, np.max), _extreme(mean, width, np.min)
    low, high = SOFT_TISSUE_HU
    fits = (highest - lowest < UNIFORM_SPREAD_HU) & (lowest > low) & (highest < high)
    rows, columns = (length - 2 * reach_pixels for length in hu.shape)
    within = np.s_[reach_pixels : reach_pixels + rows, reach_pixels : reach_pixels + columns]
    found[within] = fits[:rows, :columns]
    return found


def _extreme(
    image: NDArray[np.float64], width: int, of: Callable[..., NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return the maximum or minimum of each complete square of ``width`` pixels."""
    down = of(sliding_window_view(image, width, axis=0), axis=-1)
    return of(sliding_window_view(down, width, axis=1), axis=-1)

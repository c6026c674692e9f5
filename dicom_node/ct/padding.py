"""Undeclared padding: constant values below air outside the field of view.

Scanners fill what they did not reconstruct with one value, and many do not state it in Pixel
Padding Value or state another one (PS3.3 C.7.5.1.1.2). Three criteria together separate it from
signal: it lies below air, it is constant, and it reaches the edge of the image.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAX_PADDING_HU: Final = -1100.0
"""Undeclared padding lies below this value. Air is -1000 HU, clipped at -1024 in twelve bits, and
noise added to it is not constant."""

MIN_RUN_PIXELS: Final = 3
"""Length of a run of equal pixels on the image edge that seeds padding; noise has shorter runs."""

MIN_FILLED_PIXELS: Final = 6
"""Pixels that one padding value must fill, as many as the corner of a 3 x 3 square; fewer in images
of less than 20 x 20 pixels."""

MAX_ITERATIONS: Final = 64
"""Limit of alternations between rows and columns in region growing; circles take two or three."""


def undeclared_padding(stored: NDArray[Any], hu: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Find constants below air that reach the edge of an image.

    The same value inside the patient (metal, the end of the scale) is signal and is excluded.

    Args:
        stored: Stored values [row, column].
        hu: The same in HU [row, column].
    """
    low = hu < MAX_PADDING_HU
    seeds = _edge_seeds(stored, low)
    if not seeds.any():
        return seeds
    reached = _grown(seeds, stored, low)
    min_pixels = max(min(MIN_RUN_PIXELS, *low.shape), min(MIN_FILLED_PIXELS, low.size // 64))
    values, counts = np.unique(stored[reached], return_counts=True)
    constant = low & np.isin(stored, values[counts >= min_pixels])
    # A value known to be padding needs no run: a circle leaves single pixels in a corner.
    corners = constant & _frame(low.shape) & ~reached
    found: NDArray[np.bool_] = reached & constant
    return _grown(found | corners, stored, constant) if corners.any() else found


def _frame(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels of the four edges."""
    frame = np.ones(shape, np.bool_)
    frame[1:-1, 1:-1] = False
    return frame


def _edge_seeds(stored: NDArray[Any], low: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Low pixels of the four edges within a run of equal values."""
    seeds = np.zeros(low.shape, np.bool_)
    for edge in (np.s_[0, :], np.s_[-1, :], np.s_[:, 0], np.s_[:, -1]):
        if not low[edge].any():
            continue
        runs = _runs(stored[edge][None], low[edge][None])[0]
        lengths = np.bincount(runs, weights=low[edge])
        seeds[edge] |= low[edge] & (lengths[runs] >= min(MIN_RUN_PIXELS, len(runs)))
    return seeds


def _grown(
    seeds: NDArray[np.bool_], stored: NDArray[Any], low: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Low pixels connected to the seeds through neighbours of equal value (region growing)."""
    along_rows, along_columns = _runs(stored, low), _runs(stored.T, low.T).T
    reached, count = seeds, 0
    for _ in range(MAX_ITERATIONS):
        for runs in (along_rows, along_columns):
            touched = np.zeros(int(runs.max()) + 1, np.bool_)
            touched[runs[reached]] = True
            reached = low & touched[runs]
        before, count = count, int(np.count_nonzero(reached))
        if count == before:
            break
    return reached


def _runs(stored: NDArray[Any], low: NDArray[np.bool_]) -> NDArray[np.int_]:
    """Label [row, column] of the run along its row to which each low pixel belongs.

    A pixel that is not low begins a run of its own, which no low pixel joins.
    """
    begins = np.ones(stored.shape, np.bool_)
    same = (stored[:, 1:] == stored[:, :-1]) & low[:, 1:] & low[:, :-1]
    begins[:, 1:] = ~same
    return np.cumsum(begins, dtype=np.int_).reshape(stored.shape)

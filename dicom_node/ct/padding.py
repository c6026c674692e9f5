"""Padding that no header declares: a constant below what air can be, outside the field of view.

Scanners fill what they did not reconstruct with one value, and many do not name it in Pixel Padding
Value or name another one (PS3.3 C.7.5.1.1.2). It is told from signal by three signs together: it
lies lower than air, it is constant, and it reaches the image's frame.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAX_PADDING_HU: Final = -1100.0
"""Undeclared padding lies below it. Air is -1000 HU and cut off at -1024 in twelve bits; what noise
adds to it is not constant."""

MIN_RUN_PIXELS: Final = 3
"""Equal neighbours on the frame from which padding is followed inwards; noise has fewer."""

MIN_FILLED_PIXELS: Final = 6
"""Pixels that one value must fill, as many as a corner of three by three holds; fewer in images of
less than 20 x 20 pixels."""

MAX_ITERATIONS: Final = 64
"""Turns between rows and columns in following a region; corners and circles take two or three."""


def undeclared_padding(stored: NDArray[Any], hu: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Find constants below air that reach the frame of an image.

    The same value inside the patient (metal, the end of the scale) is signal and is not found.

    Args:
        stored: Stored values [row, column].
        hu: The same in HU [row, column].
    """
    low = hu < MAX_PADDING_HU
    seeds = _on_frame(stored, low)
    if not seeds.any():
        return seeds
    reached = _followed(seeds, stored, low)
    fewest = max(min(MIN_RUN_PIXELS, *low.shape), min(MIN_FILLED_PIXELS, low.size // 64))
    values, counts = np.unique(stored[reached], return_counts=True)
    constant = low & np.isin(stored, values[counts >= fewest])
    # A value that is known for padding needs no run: a circle leaves single pixels in a corner.
    corners = constant & _frame(low.shape) & ~reached
    found: NDArray[np.bool_] = reached & constant
    return _followed(found | corners, stored, constant) if corners.any() else found


def _frame(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels of the four edges."""
    frame = np.ones(shape, np.bool_)
    frame[1:-1, 1:-1] = False
    return frame


def _on_frame(stored: NDArray[Any], low: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Low pixels of the four edges that stand in a run of equal ones."""
    seeds = np.zeros(low.shape, np.bool_)
    for edge in (np.s_[0, :], np.s_[-1, :], np.s_[:, 0], np.s_[:, -1]):
        if not low[edge].any():
            continue
        runs = _runs(stored[edge][None], low[edge][None])[0]
        lengths = np.bincount(runs, weights=low[edge])
        seeds[edge] |= low[edge] & (lengths[runs] >= min(MIN_RUN_PIXELS, len(runs)))
    return seeds


def _followed(
    seeds: NDArray[np.bool_], stored: NDArray[Any], low: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Low pixels that are joined to the seeds by steps between equal values."""
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
    """Number of the run [row, column] to which each low pixel belongs, counted through the rows.

    A pixel that is not low begins a run, to which no low pixel belongs.
    """
    begins = np.ones(stored.shape, np.bool_)
    same = (stored[:, 1:] == stored[:, :-1]) & low[:, 1:] & low[:, :-1]
    begins[:, 1:] = ~same
    return np.cumsum(begins, dtype=np.int_).reshape(stored.shape)

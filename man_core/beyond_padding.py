"""Tissue continued into padding, as a denoiser is shown it.

Padding is air to a denoiser. Where it cuts through the body (a large patient, a small field of
view), that would be an edge far sharper than any in a patient, and a network smooths it: the
shipped model shifts the first pixels beside it by -24 HU on average. So the tissue is mirrored
there, with its noise: continuing it by the nearest pixel would make streaks, and a smooth
continuation would lack the noise by which a network judges how much to remove.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from man_core import filters
from man_core.slices import HuSlices, SliceSource, SlicesWithNeighbours

MAX_AIR_HU: Final = -900.0
"""Local mean up to which a pixel beside padding is air; lung is above it."""

AIR_REACH_PIXELS: Final = 3
"""Reach of the square of a local mean, wide enough for noise in air to stay below the limit."""

CONTINUED_PIXELS: Final = 16
"""Reach of the continuation. Of 8, 16 and 32 pixels, 8 leaves a trace of the edge; 32 gains little
and takes twice the time."""

_FAR_PIXELS: Final = 1 << 14
"""Distance beyond that of any two pixels of an image, whose square fits in 32 bits."""

_PLACES_AT_ONCE: Final = 4096
"""Places whose neighbours are in memory at once."""

_Places = tuple[NDArray[np.int32], NDArray[np.int32]]
"""Rows [place] and columns [place] of pixels; of the neighbours of places [place, neighbour]."""


class ContinuedSlices:
    """A series whose tissue continues into padding that cuts it off.

    Args:
        source: The series; its padding is air.
    """

    def __init__(self, source: SliceSource) -> None:
        self._source = source

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of (slices, rows, columns)."""
        return self._source.shape

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, part: slice) -> NDArray[np.float32]:
        return continued_tissue(self._source[part], self._source.padding(part))

    def neighbours(self, index: int) -> tuple[int, int]:
        """Return the indices of the slices below and above one; its own where there is none."""
        return self._source.neighbours(index)


def shown_slices(source: SliceSource, context_slices: int) -> HuSlices:
    """Return a series as a model is shown it, with neighbours if it sees them.

    Args:
        source: The series; its padding is air.
        context_slices: ``ModelCard.context_slices``.
    """
    continued = ContinuedSlices(source)
    return SlicesWithNeighbours(continued) if context_slices else continued


def continued_tissue(
    hu: NDArray[np.float32], padding: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """Mirror tissue into padding at their border, up to ``CONTINUED_PIXELS`` deep.

    Args:
        hu: [slice, row, column].
        padding: Mask of pixels without measurement, of the same shape; None: no padding.

    Returns:
        HU, of the same shape; ``hu`` itself where padding touches nothing but air.
    """
    filled = hu
    for index, mask in enumerate(() if padding is None else padding):
        cut = _cut_tissue(hu[index], mask)
        if cut is None:
            continue
        if filled is hu:
            filled = hu.copy()
        _mirror(filled[index], mask, mask & _within_reach(cut, CONTINUED_PIXELS))
    return filled


def _cut_tissue(hu: NDArray[np.float32], padding: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Return the mask of tissue beside padding [row, column]; None if there is none."""
    if not padding.any():
        return None
    rim = _within_reach(padding, 1) & ~padding
    rim &= hu > MAX_AIR_HU
    rim[rim] = _local_means(hu, padding, _places(rim)) > MAX_AIR_HU
    return rim if rim.any() else None


def _local_means(
    hu: NDArray[np.float32], padding: NDArray[np.bool_], places: _Places
) -> NDArray[np.float64]:
    """Return the mean of the measured pixels around each place [place], itself measured."""
    offsets = np.arange(-AIR_REACH_PIXELS, AIR_REACH_PIXELS + 1, dtype=np.int32)
    down, right = (grid.ravel() for grid in np.meshgrid(offsets, offsets, indexing="ij"))
    means = np.empty(len(places[0]))
    for first in range(0, len(means), _PLACES_AT_ONCE):
        part = slice(first, first + _PLACES_AT_ONCE)
        rows, columns = (place[part, None] for place in places)
        values, measured = _measured_at(hu, padding, (rows + down, columns + right))
        total = np.where(measured, values, 0.0).sum(axis=1, dtype=np.float64)
        means[part] = total / measured.sum(axis=1)
    return means


def _mirror(hu: NDArray[np.float32], padding: NDArray[np.bool_], band: NDArray[np.bool_]) -> None:
    """Fill a band of padding with what lies as far behind the nearest measured pixel.

    Where nothing was measured there, the nearest pixel itself is repeated.
    """
    rows, columns = _places(band)
    row, column = _nearest_measured(padding, (rows, columns))
    values, measured = _measured_at(hu, padding, (2 * row - rows, 2 * column - columns))
    hu[band] = np.where(measured, values, hu[row, column])


def _measured_at(
    hu: NDArray[np.float32], padding: NDArray[np.bool_], places: _Places
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return HU at places, and whether each lies in the image and was measured."""
    row, column = (
        place.clip(0, length - 1) for place, length in zip(places, hu.shape, strict=True)
    )
    inside = (row == places[0]) & (column == places[1])
    return hu[row, column], inside & ~padding[row, column]


def _nearest_measured(padding: NDArray[np.bool_], places: _Places) -> _Places:
    """Find the measured pixel nearest to each place, within ``CONTINUED_PIXELS`` columns.

    One pass over the image finds the nearest one of each column; the columns are then compared.
    """
    rows, columns = places
    by_column, last = _nearest_rows(padding), padding.shape[1] - 1
    shortest = np.full(len(rows), np.iinfo(np.int32).max, np.int32)
    found = np.zeros((2, len(rows)), np.int32)
    for right in range(-CONTINUED_PIXELS, CONTINUED_PIXELS + 1):
        column = (columns + right).clip(0, last)
        row = by_column[rows, column]
        distance = (row - rows) ** 2 + (column - columns) ** 2
        closer = distance < shortest
        np.copyto(shortest, distance, where=closer)
        np.copyto(found[0], row, where=closer)
        np.copyto(found[1], column, where=closer)
    return found[0], found[1]


def _nearest_rows(padding: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the row of the nearest measured pixel in the same column [row, column].

    Far outside the image in a column without any.
    """
    far, row = np.int32(_FAR_PIXELS), np.arange(len(padding), dtype=np.int32)[:, None]
    above = np.maximum.accumulate(np.where(padding, -far, row), axis=0)
    below = np.minimum.accumulate(np.where(padding, far, row)[::-1], axis=0)[::-1]
    return np.where(row - above <= below - row, above, below)


def _places(mask: NDArray[np.bool_]) -> _Places:
    rows, columns = np.divmod(np.flatnonzero(mask).astype(np.int32), np.int32(mask.shape[1]))
    return rows, columns


def _within_reach(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    writable = torch.from_numpy(mask[None].copy())
    near: NDArray[np.bool_] = filters.within_reach(writable, reach)[0].numpy()
    return near

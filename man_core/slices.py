"""Slices of a series as a denoiser takes them: from memory, or read when their turn comes."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from man_core.context import Neighbours


class HuSlices(Protocol):
    """A series in HU: an array [slice, row, column], or what reads slices when asked for them."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of (slices, rows, columns)."""
        ...

    def __len__(self) -> int:
        """Return the number of slices."""
        ...

    def __getitem__(self, part: slice, /) -> NDArray[np.float32]:
        """Return slices in HU; an earlier one may be asked for again until its result is there."""
        ...


class StackedSlices(HuSlices, Protocol):
    """A series of which it is known which slices lie beside each."""

    def neighbours(self, index: int) -> tuple[int, int]:
        """Return the indices of the slices below and above one; its own where there is none.

        An index beyond the end is that of a slice that is only seen, and not denoised.
        """
        ...


class SliceSource(StackedSlices, Protocol):
    """A series whose slices are asked for in order, some of them also before."""

    def padding(self, part: slice) -> NDArray[np.bool_] | None:
        """Return the mask of pixels without measurement [slice, row, column]; None: no padding."""
        ...


class ArraySlices:
    """A series in memory.

    Args:
        hu: [slice, row, column].
        padding: Mask of pixels without measurement, of the same shape; None: no padding.
        neighbours: Slices beside each; None: all slices lie beside each other, in this order.
    """

    def __init__(
        self,
        hu: NDArray[np.float32],
        padding: NDArray[np.bool_] | None = None,
        neighbours: Neighbours | None = None,
    ) -> None:
        self._hu, self._padding, self._neighbours = hu, padding, neighbours

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of (slices, rows, columns)."""
        slices, rows, columns = self._hu.shape
        return slices, rows, columns

    def __len__(self) -> int:
        return len(self._hu)

    def __getitem__(self, part: slice) -> NDArray[np.float32]:
        return self._hu[part]

    def padding(self, part: slice) -> NDArray[np.bool_] | None:
        """Return the padding of slices."""
        return None if self._padding is None else self._padding[part]

    def neighbours(self, index: int) -> tuple[int, int]:
        """Return the indices of the slices below and above one; its own where there is none."""
        if self._neighbours is not None:
            return self._neighbours[index]
        return max(index - 1, 0), min(index + 1, len(self) - 1)


class SlicesWithNeighbours:
    """A series of which each slice comes with those beside it.

    Of a batch of neighbouring slices it reads that batch and two slices more.

    Args:
        source: The series.
    """

    def __init__(self, source: StackedSlices) -> None:
        self._source = source

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of (slices, rows, columns)."""
        return self._source.shape

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, part: slice) -> NDArray[np.float32]:
        """Return slices with those below and above [slice, 3, row, column]."""
        indices = range(*part.indices(len(self)))
        triples = [(index, *self._source.neighbours(index)) for index in indices]
        wanted = sorted({one for triple in triples for one in triple})
        read = {one: self._source[one : one + 1][0] for one in wanted}
        return np.stack([np.stack([read[one] for one in triple]) for triple in triples])

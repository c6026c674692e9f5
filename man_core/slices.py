"""Slices of a series as a denoiser takes them: from memory, or read when their turn comes."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


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


class SliceSource(HuSlices, Protocol):
    """A series whose slices are asked for in order, some of them also before."""

    def padding(self, part: slice) -> NDArray[np.bool_] | None:
        """Return the mask of pixels without measurement [slice, row, column]; None: no padding."""
        ...


class ArraySlices:
    """A series in memory.

    Args:
        hu: [slice, row, column].
        padding: Mask of pixels without measurement, of the same shape; None: no padding.
    """

    def __init__(self, hu: NDArray[np.float32], padding: NDArray[np.bool_] | None = None) -> None:
        self._hu, self._padding = hu, padding

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

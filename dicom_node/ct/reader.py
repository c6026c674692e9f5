"""Slices of a series read ahead of their use by converter processes, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from threading import Lock
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from dicom_node.ct.conversion.pool import CONVERTERS, ReadSlice
from dicom_node.ct.stack import BYTES_PER_VOXEL, SLICE_BYTES_PER_PIXEL, CtStack

MAX_HELD_BYTES: Final = 1 << 29
"""Memory for slices that wait, and again for those that are being decoded, in all processes."""

MAX_AHEAD_SLICES: Final = 32
MIN_AHEAD_SLICES: Final = 2


class SliceReader:
    """Slices of a series in HU, as ``man_core.denoise_stream`` takes them.

    A slice is kept until it is released. ``early`` slices are read first and kept for their turn
    too, if they take at most half of ``MAX_HELD_BYTES``; otherwise they are read again then.

    Args:
        stack: The series.
        early: Indices of the slices that are asked for before all others.
        derived: Whether the slices will be derived; the processes then keep what that takes.
        context_slices: Slices below and above that are seen beside each. A released slice is then
            kept until those that see it have been released too.
    """

    def __init__(
        self,
        stack: CtStack,
        early: Sequence[int] = (),
        *,
        derived: bool = False,
        context_slices: int = 0,
    ) -> None:
        self._stack, self._derived = stack, derived
        self._seers = _seers(stack) if context_slices else {}
        pixels = stack.shape[1] * stack.shape[2]
        fitting = MAX_HELD_BYTES // (pixels * BYTES_PER_VOXEL)
        self._passing = frozenset(early if 2 * len(early) > fitting else ())
        kept = len(early) - len(self._passing)
        ahead = min(max(fitting - kept, MIN_AHEAD_SLICES), MAX_AHEAD_SLICES)
        self._max_held = kept + ahead
        self._order: Iterator[int] = chain(early, range(len(self)))
        self._held: dict[int, Future[ReadSlice]] = {}
        self._released: set[int] = set()
        self._lock = Lock()
        fitting = MAX_HELD_BYTES // (pixels * SLICE_BYTES_PER_PIXEL)
        at_once = max(min(fitting, CONVERTERS.size_for(len(self))), 1)
        self._threads = ThreadPoolExecutor(at_once, "read")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
        read = (one for one in self._held.values() if not one.cancelled() and not one.exception())
        CONVERTERS.release(one.result() for one in read)

    @property
    def stack(self) -> CtStack:
        """The series."""
        return self._stack

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of (slices, rows, columns)."""
        return self._stack.shape

    def neighbours(self, index: int) -> tuple[int, int]:
        """Return the indices of the slices below and above one; its own where there is none."""
        return self._stack.neighbours[index]

    def seen_beside(self, index: int) -> list[tuple[str, str]]:
        """Return SOP class and instance of the slices that are seen beside one."""
        return self._stack.beside(index) if self._seers else []

    def __len__(self) -> int:
        return len(self._stack.headers)

    def __getitem__(self, part: slice) -> NDArray[np.float32]:
        indices = self._indices(part)
        found = np.stack([self.slice(index).hu for index in indices])
        if self._passing.issuperset(indices):
            self._passing = self._passing.difference(indices)
            with self._lock:
                self._forget(indices)
        return found

    def padding(self, part: slice) -> NDArray[np.bool_]:
        """Return the mask of pixels without data [slice, row, column]."""
        return np.stack([self.slice(one).padding for one in self._indices(part)])

    def _indices(self, part: slice) -> range:
        """Return the indices of a part, which may reach into slices that are only seen."""
        return range(*part.indices(len(self) + len(self._stack.seen)))

    def slice(self, index: int) -> ReadSlice:
        """Return a slice, read now if it has not been read ahead.

        Raises:
            InputError: As ``read_slice``.
            StorageError: As :meth:`ConverterPool.read`.
        """
        with self._lock:
            found = self._held.get(index) or self._begin(index)
            self._read_ahead()
        return found.result()

    def release(self, indices: Sequence[int]) -> None:
        """Forget slices, which makes room for others, once no slice that is left sees them."""
        with self._lock:
            self._forget([done for index in indices for done in self._done_with(index)])

    def _done_with(self, index: int) -> list[int]:
        """Return what need not be held any more when a slice is released."""
        if not self._seers:
            return [index]
        seen = {index, *self._stack.neighbours[index]}
        for one in seen:
            self._seers[one].discard(index)
        return [one for one in seen if not self._seers[one]]

    def _forget(self, indices: Sequence[int]) -> None:
        self._released.update(indices)
        for index in indices:
            self._held.pop(index, None)
        self._read_ahead()

    def _read_ahead(self) -> None:
        while len(self._held) < self._max_held and (index := next(self._order, None)) is not None:
            if index not in self._held and index not in self._released:
                self._begin(index)

    def _begin(self, index: int) -> Future[ReadSlice]:
        self._held[index] = self._threads.submit(self._read, index)
        return self._held[index]

    def _read(self, index: int) -> ReadSlice:
        keep = self._derived and index not in self._passing and index < len(self)
        return CONVERTERS.read(self._stack.file(index), keep=keep)


def _seers(stack: CtStack) -> dict[int, set[int]]:
    """Return for each slice, and each that is only seen, the slices that need it."""
    seers: dict[int, set[int]] = {}
    for index, neighbours in enumerate(stack.neighbours):
        for seen in (index, *neighbours):
            seers.setdefault(seen, set()).add(index)
    return seers

"""Write the derived files of a series while later slices are denoised: all of them, or none."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_node.ct.conversion.messages import SeriesLabels
from dicom_node.ct.conversion.pool import CONVERTERS
from dicom_node.ct.derived.provenance import DeriveOptions, Provenance
from dicom_node.ct.files import umask
from dicom_node.ct.reader import SliceReader
from dicom_node.ct.stack import BYTES_PER_VOXEL
from dicom_node.ct.uids import derived_uid
from dicom_node.denoising.result_folder import move, part_folder

MAX_WAITING_SLICES = 32
"""Denoised slices that may wait for their file; more would fill the memory."""

MAX_WAITING_BYTES = 1 << 28
"""Memory for the same; of large images it holds fewer, but one in any case."""

_BYTES_PER_PIXEL = BYTES_PER_VOXEL + 4
"""Memory of a slice that waits: what was read of it, and the result in single precision."""


class Derivation:
    """Have the files of all slices written, in order, by the processes that have read them.

    Args:
        source: Slices of the series that is denoised; each is released when its file is written.
        files: Path of each slice's file.
        labels: Labels of the derived series.
        threads: Wait for the processes.
    """

    def __init__(
        self,
        source: SliceReader,
        files: Sequence[Path],
        labels: SeriesLabels,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._source, self._files = source, files
        self._labels, self._threads = labels, threads
        self._waiting: deque[Future[None]] = deque()

    def put(self, first: int, hu: NDArray[np.float32]) -> None:
        """Take denoised slices [slice, row, column]; they must not change any more.

        Waits while more than ``MAX_WAITING_SLICES``, or ``MAX_WAITING_BYTES``, have no file yet.

        Args:
            first: Index of the first of them in the series.
            hu: HU.

        Raises:
            UnreadableFile: The header of an earlier slice cannot be written.
            StorageError: The disk is full or the folder not writable.
        """
        fitting = max(1, MAX_WAITING_BYTES // (hu[0].size * _BYTES_PER_PIXEL))
        for index, one in enumerate(hu, start=first):
            self._waiting.append(self._threads.submit(self._write, index, one))
        while self._waiting and (
            len(self._waiting) > min(fitting, MAX_WAITING_SLICES) or self._waiting[0].done()
        ):
            self._waiting.popleft().result()

    def finish(self) -> None:
        """Wait for the files of all slices that were put.

        Raises:
            UnreadableFile: The header of a slice cannot be written.
            StorageError: The disk is full or the folder not writable.
        """
        for one in self._waiting:
            one.result()

    def add_guard_objections(self, flagged: str) -> None:
        """Write the guard's objections into all files; every slice must have been put.

        Raises:
            UnreadableFile: The header of a slice cannot be written, or its source has changed.
            StorageError: The disk is full or the folder not writable.
        """
        self.finish()

        def add(index: int) -> None:
            file = self._source.stack.file(index)
            CONVERTERS.add_objections(file, self._files[index], self._labels, flagged)

        for _ in self._threads.map(add, range(len(self._files))):
            pass

    def _write(self, index: int, hu: NDArray[np.float32]) -> None:
        beside = self._source.seen_beside(index)
        CONVERTERS.derive(self._source.slice(index), hu, self._files[index], self._labels, beside)
        self._source.release((index,))


@contextmanager
def deriving(
    source: SliceReader,
    targets: Sequence[Path],
    provenance: Provenance,
    options: DeriveOptions,
    missing: str,
) -> Iterator[Derivation]:
    """Derive a series while it is denoised.

    The files are made in a hidden folder beside their places and moved there at the end, when the
    block is left without an error; otherwise nothing stays.

    Args:
        source: Slices of the series that is denoised.
        targets: The place of each slice's file, all in one folder that is there.
        provenance: Model and settings.
        options: Labels of the derived series.
        missing: Slices that the source lacked, in words.

    Yields:
        Takes the slices.

    Raises:
        InputError: The header of a slice cannot be written, or the folder of the targets holds
            images of another series by now.
        StorageError: The disk is full or the folder not writable.
    """
    with part_folder(targets[0].parent) as folder:
        files = [folder / target.name for target in targets]
        labels = SeriesLabels(provenance, options, missing, umask())
        threads = ThreadPoolExecutor(CONVERTERS.size, "derive")
        try:
            derivation = Derivation(source, files, labels, threads)
            yield derivation
            derivation.finish()
            move(files, targets, derived_uid(source.stack.series_uid, provenance.key(options)))
        finally:
            threads.shutdown(cancel_futures=True)

"""Write the derived files of a series while later slices are denoised: all of them, or none."""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.ct.derived.image import add_guard_objections, derive_image
from dicom_node.ct.derived.provenance import DeriveOptions, Provenance
from dicom_node.ct.files import read_back, write_file
from dicom_node.ct.headers import load_whole
from dicom_node.ct.reader import SliceReader
from dicom_node.ct.stack import BYTES_PER_VOXEL
from dicom_node.errors import StorageError, UnreadableFile

MAX_WAITING_SLICES = 32
"""Denoised slices that may wait for their file; more would fill the memory."""

MAX_WAITING_BYTES = 1 << 28
"""Memory for the same; of large images it holds fewer, but one in any case."""

_BYTES_PER_PIXEL = BYTES_PER_VOXEL + 4
"""Memory of a slice that waits: what was read of it, and the result in single precision."""


class Derivation:
    """Write the files of all slices in order, in one thread of its own.

    Nearly all of it is done in Python, so a second thread would gain nothing.

    Args:
        source: Slices of the series that is denoised; each is released when its file is written.
        files: Path of each slice's file.
        provenance: Model and settings.
        options: Labels of the derived series.
        missing: Slices that the source lacked, in words.
        thread: Runs the work.
    """

    def __init__(
        self,
        source: SliceReader,
        files: Sequence[Path],
        provenance: Provenance,
        options: DeriveOptions,
        missing: str,
        thread: ThreadPoolExecutor,
    ) -> None:
        self._source, self._files, self._provenance = source, files, provenance
        self._options, self._missing, self._thread = options, missing, thread
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
            self._waiting.append(self._thread.submit(self._write, index, one))
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
        for source, file in zip(self._source.files, self._files, strict=True):
            image, header = read_back(file), load_whole(source)
            if header.get("SOPInstanceUID") != _source_uid(image):
                raise UnreadableFile(
                    f"{source.name} has changed while its series was read: try again."
                )
            add_guard_objections(image, header, self._provenance, self._missing, flagged)
            write_file(image, file)

    def _write(self, index: int, hu: NDArray[np.float32]) -> None:
        image = derive_image(
            self._source.slice(index), hu, self._provenance, self._options, missing=self._missing
        )
        write_file(image, self._files[index])
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
        UnreadableFile: The header of a slice cannot be written.
        StorageError: The disk is full or the folder not writable.
    """
    folder = _hidden_folder(targets[0].parent)
    files = [folder / target.name for target in targets]
    thread = ThreadPoolExecutor(1, "derive")
    try:
        derivation = Derivation(source, files, provenance, options, missing, thread)
        yield derivation
        derivation.finish()
        _move(files, targets)
    finally:
        thread.shutdown(cancel_futures=True)
        shutil.rmtree(folder, ignore_errors=True)


def _source_uid(derived: Dataset) -> str:
    return str(derived.SourceImageSequence[0].ReferencedSOPInstanceUID)


def _hidden_folder(parent: Path) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=parent))
    except OSError as error:
        raise _not_writable(parent, error) from error


def _move(files: Sequence[Path], targets: Sequence[Path]) -> None:
    """Move all files to their places; where one cannot be moved, none stays there."""
    for number, (file, target) in enumerate(zip(files, targets, strict=True)):
        try:
            file.replace(target)
        except OSError as error:
            for moved in targets[:number]:
                moved.unlink(missing_ok=True)
            raise _not_writable(target, error) from error


def _not_writable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be written: {error.strerror or 'write error'}.")

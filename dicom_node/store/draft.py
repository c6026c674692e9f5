"""Draft of an image file: written and hashed as it arrives, and named when complete."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from dicom_node.store.durable import PART_SUFFIX, disk_faults, start_writing_back


class Draft:
    """A file that is being written, locked so that no sweep mistakes it for a leftover.

    Args:
        folder: Folder on the file system of the final path.
        meta: Bytes before the data set.
    """

    def __init__(self, folder: Path, meta: bytes) -> None:
        self._part = folder / f"{uuid.uuid4().hex[:16]}{PART_SUFFIX}"
        self._meta_size = self.size = len(meta)
        self._hash = hashlib.sha256()
        self._descriptor = os.open(
            self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666
        )
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            _write(self._descriptor, memoryview(meta))
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.discard()

    def write(self, fragment: bytes | memoryview) -> None:
        """Append to the data set.

        Raises:
            StorageError: The disk is full or not writable.
        """
        with disk_faults(self._part.parent):
            _write(self._descriptor, memoryview(fragment))
        start_writing_back(self._descriptor, self.size, len(fragment))
        self._hash.update(fragment)
        self.size += len(fragment)

    def sha256(self) -> str:
        """Return the hash of the data set so far."""
        return self._hash.hexdigest()

    def data_set(self) -> memoryview:
        """Return the data set so far, as a read-only memory map."""
        if self.size == self._meta_size:
            return memoryview(b"")
        mapped = mmap.mmap(self._descriptor, self.size, access=mmap.ACCESS_READ)
        return memoryview(mapped)[self._meta_size :]

    def become(self, path: Path) -> None:
        """Link the file to its final path and flush its content; the caller flushes the folder.

        The link precedes the fsync, which on a journaling file system then covers both. After a
        power failure between the two the file may be torn: it is in no ledger, and the next image
        of this name verifies it.

        Raises:
            OSError: The disk is full or not writable.
        """
        try:
            os.link(self._part, path)
        except FileExistsError:
            self._settle(path)
        else:
            os.fsync(self._descriptor)
        self.discard()

    def discard(self) -> None:
        """Close and remove the draft unless it has its final name; may be called repeatedly."""
        if self._descriptor >= 0:
            with suppress(OSError):
                self._part.unlink()
            os.close(self._descriptor)
            self._descriptor = -1

    def _settle(self, path: Path) -> None:
        """Keep the existing file if its content is the same; replace it if it is torn."""
        with path.open("rb") as there:
            if os.fstat(there.fileno()).st_size == self.size:
                there.seek(self._meta_size)
                if hashlib.file_digest(there, "sha256").digest() == self._hash.digest():
                    os.fsync(there.fileno())
                    return
        os.fsync(self._descriptor)
        self._part.replace(path)


def _write(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]

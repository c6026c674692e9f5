"""An image on its way to disk: written and hashed while it arrives, named when it is whole."""

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
    """A file that is being written; it is locked, so that no sweep takes it for a leftover.

    Args:
        folder: On the file system of the final place.
        meta: What comes before the data set.
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
        """Add to the data set.

        Raises:
            StorageError: The disk is full or not writable.
        """
        with disk_faults(self._part.parent):
            _write(self._descriptor, memoryview(fragment))
        start_writing_back(self._descriptor, self.size, len(fragment))
        self._hash.update(fragment)
        self.size += len(fragment)

    def sha256(self) -> str:
        """Of the data set so far."""
        return self._hash.hexdigest()

    def data_set(self) -> memoryview:
        """The data set so far, to be looked at; mapped, not read."""
        if self.size == self._meta_size:
            return memoryview(b"")
        mapped = mmap.mmap(self._descriptor, self.size, access=mmap.ACCESS_READ)
        return memoryview(mapped)[self._meta_size :]

    def become(self, path: Path) -> None:
        """Get a name and bring the content to the disk; the caller synchronises the folder.

        The name comes before the fsync, which on a journaling file system then covers both. After a
        power cut between the two the file may be torn: no ledger knows it, and the next image of
        this name does not trust it.

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
        """Close and remove what has no other name; more than once is no harm."""
        if self._descriptor >= 0:
            with suppress(OSError):
                self._part.unlink()
            os.close(self._descriptor)
            self._descriptor = -1

    def _settle(self, path: Path) -> None:
        """The same content has that name already, unless a power cut has torn it."""
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

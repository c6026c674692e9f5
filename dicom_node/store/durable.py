"""Durable writing: after any interruption a file is complete or absent.

A file is written under a name ending in ``.part`` in its own folder, flushed and renamed. Then the
folder is flushed, after which the name survives a power failure.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dicom_node.errors import StorageError

PART_SUFFIX = ".part"
"""Suffix of files that are still being written."""

HASH_DIGITS = 24
"""Hexadecimal digits of a UID's hash in file names: 96 bits, so that collisions are negligible."""


def hashed(uid: str) -> str:
    """Return the file name for a UID: a hash, which reveals no identity."""
    return hashlib.sha256(uid.encode()).hexdigest()[:HASH_DIGITS]


def write_durably(path: Path, parts: Sequence[bytes]) -> None:
    """Write a file so that it is complete or absent.

    Raises:
        StorageError: The disk is full or not writable; nothing is left behind.
    """
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{PART_SUFFIX}")
    with disk_faults(path.parent):
        make_folder(path.parent)
        try:
            with part.open("xb") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def start_writing_back(descriptor: int, offset: int, length: int) -> None:
    """Have the kernel begin to write bytes to the disk before the fsync that follows later.

    This halves the time of the fsync. It is a hint, without effect where it is not supported.
    """
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)


def is_locked(path: Path) -> bool:
    """Whether any process, here or on another host, holds a lock on a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, each flushed in its parent folder."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_file(path: Path) -> None:
    """Flush a file's content to the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def last_written(path: Path) -> float:
    """Return the last change of a file or of a folder's names; infinity if it is missing."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def remove_tree(folder: Path) -> None:
    """Remove a folder in one step (a rename), then delete its content."""
    doomed = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}{PART_SUFFIX}")
    try:
        folder.rename(doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def remove_leftover(path: Path) -> None:
    """Delete an incomplete file, or a folder whose removal was interrupted."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def disk_faults(folder: Path) -> Iterator[None]:
    """Convert an operating system error into a :class:`StorageError`."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written ({error.strerror}); free space or check its owner."
        ) from error


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Writing files so that they are complete on disk, or not there, whatever happens meanwhile.

A file is written under a name ending in ``.part`` in its own folder, synchronised, renamed, and
then the folder is synchronised: only now does the name survive a power cut.
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
"""Ending of files that are still being written."""

HASH_LENGTH = 24
"""Hex digits of a UID's hash in file names: 96 bits, no chance of two UIDs meeting."""


def hashed(uid: str) -> str:
    """File name for a UID: no identity, no separators, always the same."""
    return hashlib.sha256(uid.encode()).hexdigest()[:HASH_LENGTH]


def write_durably(path: Path, parts: Sequence[bytes]) -> None:
    """Write a file so that it is there in whole, or not at all.

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
    """Have the kernel begin to write bytes to the disk, so that the later fsync finds them there.

    Halves what an fsync costs whoever waits for it. A hint: where it is unknown nothing happens.
    """
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)


def is_locked(path: Path) -> bool:
    """Whether some process, here or on another host, holds a lock on a file."""
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
    """Make a folder and its parents; each new name is made durable in the folder above."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_file(path: Path) -> None:
    """Bring a file's content to the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def last_written(path: Path) -> float:
    """When a file, or the list of names in a folder, was last changed; never if it has gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def remove_tree(folder: Path) -> None:
    """Remove a folder in one step (a rename), then delete what was in it."""
    doomed = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}{PART_SUFFIX}")
    try:
        folder.rename(doomed)
    except FileNotFoundError:
        return
    shutil.rmtree(doomed, ignore_errors=True)


def remove_leftover(path: Path) -> None:
    """Delete a half-written file, or a folder half-way through its removal."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def disk_faults(folder: Path) -> Iterator[None]:
    """Turn what the operating system says of a disk into a :class:`StorageError`."""
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

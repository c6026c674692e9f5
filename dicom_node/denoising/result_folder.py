"""The folder that a derived series is written to, and hidden folders that it is made in."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from dicom_node.ct.attributes import texts
from dicom_node.ct.headers import load
from dicom_node.errors import InputError, StorageError

PREFIX: Final = ".derived-"
SUFFIX: Final = ".part"


def check_results(folder: Path, series_uid: str) -> None:
    """Refuse a folder that holds images of another series, which would be mixed with these.

    Args:
        folder: Folder of the derived files.
        series_uid: Series Instance UID of the derived series.

    Raises:
        InputError: It does; the sentence names one of them.
    """
    for path in sorted(one for one in folder.glob("*.dcm") if one.is_file()):
        if texts(load(path, pixels=False), "SeriesInstanceUID") != [series_uid]:
            raise InputError(
                f"{folder} holds {path.name} of another series: write to an empty folder, so that"
                " two series are not mixed."
            )


@contextmanager
def part_folder(parent: Path) -> Iterator[Path]:
    """Make a hidden folder in another one, and remove it at the end.

    Those of processes that were killed are removed first: each is locked while it is in use, and
    a lock ends with its process.

    Raises:
        StorageError: The disk is full or the parent not writable.
    """
    try:
        with _locked(parent):
            _remove_abandoned(parent)
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, suffix=SUFFIX, dir=parent))
            lock = _lock(folder, fcntl.LOCK_EX)
    except OSError as error:
        raise not_writable(parent, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def move(files: Sequence[Path], targets: Sequence[Path]) -> None:
    """Move all files to their places; where one cannot be moved, none stays there.

    Raises:
        StorageError: One cannot be moved.
    """
    for number, (file, target) in enumerate(zip(files, targets, strict=True)):
        try:
            file.replace(target)
        except OSError as error:
            for moved in targets[:number]:
                moved.unlink(missing_ok=True)
            raise not_writable(target, error) from error


def not_writable(path: Path, error: OSError) -> StorageError:
    """Return the fault of a file or folder that cannot be written."""
    return StorageError(f"{path} cannot be written: {error.strerror or 'write error'}.")


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*{SUFFIX}"):
        with suppress(OSError):  # in use by another process, or not ours
            os.close(_lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB))
            shutil.rmtree(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, so that none is removed between its making and its lock."""
    lock = _lock(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)


def _lock(folder: Path, operation: int) -> int:
    """Lock a folder; on a file system without locks, do without unless ``LOCK_NB`` is set.

    Returns:
        A descriptor, whose closing ends the lock.

    Raises:
        OSError: There is no such folder, or with ``LOCK_NB`` no lock.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, operation)
    except OSError:
        if operation & fcntl.LOCK_NB:
            os.close(descriptor)
            raise
    return descriptor

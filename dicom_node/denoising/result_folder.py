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
from dicom_node.ct.folder import dicom_files_in
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
        StorageError: The folder cannot be read.
    """
    with _locked(folder):
        _earlier(folder, series_uid)


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


def move(files: Sequence[Path], targets: Sequence[Path], series_uid: str) -> None:
    """Move all files to their places; where one cannot be moved, none stays there.

    The folder is checked once more and locked meanwhile, since another process may have put its
    results there. Earlier files of the same images under other names are removed.

    Args:
        files: Derived files.
        targets: Their places, all in one folder.
        series_uid: Series Instance UID of the derived series.

    Raises:
        InputError: The folder holds images of another series by now; nothing was moved.
        StorageError: One cannot be moved.
    """
    folder = targets[0].parent
    with _locked(folder):
        earlier = _earlier(folder, series_uid)
        others = {path: earlier[path] for path in earlier.keys() - set(targets)}
        moved = {uid for file in files for uid in _sop_uids(file)} if others else set()
        _move(files, targets)
        for path in (path for path, uids in others.items() if not moved.isdisjoint(uids)):
            _remove(path)


def not_writable(path: Path, error: OSError) -> StorageError:
    """Return the fault of a file or folder that cannot be written."""
    return StorageError(f"{path} cannot be written: {error.strerror or 'write error'}.")


def _earlier(folder: Path, series_uid: str) -> dict[Path, list[str]]:
    """Return the SOP Instance UIDs of each image in a folder; all must belong to one series."""
    earlier = {}
    for path in dicom_files_in(folder):
        header = load(path, pixels=False)
        if texts(header, "SeriesInstanceUID") != [series_uid]:
            raise InputError(
                f"{folder} holds {path.name} of another series: write to an empty folder, so that"
                " two series are not mixed."
            )
        earlier[path] = texts(header, "SOPInstanceUID")
    return earlier


def _sop_uids(path: Path) -> list[str]:
    return texts(load(path, pixels=False), "SOPInstanceUID")


def _move(files: Sequence[Path], targets: Sequence[Path]) -> None:
    for number, (file, target) in enumerate(zip(files, targets, strict=True)):
        try:
            file.replace(target)
        except OSError as error:
            for moved in targets[:number]:
                moved.unlink(missing_ok=True)
            raise not_writable(target, error) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise not_writable(path, error) from error


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*{SUFFIX}"):
        with suppress(OSError):  # in use by another process, or not ours
            os.close(_lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB))
            shutil.rmtree(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder in which hidden folders are made and results are moved.

    Raises:
        StorageError: There is no such folder, or it cannot be read.
    """
    try:
        lock = _lock(folder, fcntl.LOCK_EX)
    except OSError as error:
        raise not_writable(folder, error) from error
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

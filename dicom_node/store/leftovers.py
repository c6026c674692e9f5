"""Deletion of old files, and of incomplete files of dead processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from pathlib import Path

from dicom_node.store.durable import (
    PART_SUFFIX,
    disk_faults,
    last_written,
    remove_leftover,
)


def remove_old_files(folder: Path, *, before: float) -> int:
    """Delete the files under a folder that were last written before a time, and empty folders.

    Args:
        folder: The folder, which may be missing.
        before: Seconds since 1970.

    Returns:
        Number of deleted files.

    Raises:
        StorageError: The folder cannot be written.
    """
    with disk_faults(folder):
        old = [path for path in folder.rglob("*") if path.is_file() and last_written(path) < before]
        for path in old:
            path.unlink(missing_ok=True)
            if path.parent != folder:
                with contextlib.suppress(OSError):  # it still has other files
                    path.parent.rmdir()
    return len(old)


def sweep_parts(folder: Path, busy: Callable[[], Collection[str]]) -> int:
    """Delete incomplete files whose job no worker has claimed; return their number.

    Args:
        folder: The folder, which may be missing.
        busy: Function that returns the tokens of claimed jobs. It is called after the folder is
            listed: a worker claims before it writes, so that no file in use is deleted.
    """
    parts = sorted(folder.glob(f"*{PART_SUFFIX}"))
    taken = busy() if parts else ()
    leftovers = [part for part in parts if part.name.split(".")[0] not in taken]
    for leftover in leftovers:
        remove_leftover(leftover)
    return len(leftovers)

"""Files nobody needs any more: too old, or left half written by a process that died."""

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
    """Delete the files under a folder that were last written before a moment.

    Args:
        folder: May be missing.
        before: Seconds since 1970.

    Returns:
        How many files went; folders that became empty go too.

    Raises:
        StorageError: The folder cannot be written.
    """
    with disk_faults(folder):
        old = [path for path in folder.rglob("*") if path.is_file() and last_written(path) < before]
        for path in old:
            path.unlink(missing_ok=True)
            if path.parent != folder:
                with contextlib.suppress(OSError):  # other files are in it still
                    path.parent.rmdir()
    return len(old)


def sweep_parts(folder: Path, busy: Callable[[], Collection[str]]) -> int:
    """Delete half-written files whose job nobody works on; returns how many went.

    Args:
        folder: May be missing.
        busy: Tells the tokens of jobs that somebody works on. Asked after looking at the disk:
            whoever writes has claimed before, so that no file in use is taken.
    """
    parts = sorted(folder.glob(f"*{PART_SUFFIX}"))
    taken = busy() if parts else ()
    leftovers = [part for part in parts if part.name.split(".")[0] not in taken]
    for leftover in leftovers:
        remove_leftover(leftover)
    return len(leftovers)

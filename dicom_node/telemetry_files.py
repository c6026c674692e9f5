"""The files in which telemetry counts: one pair a process, each held by at most one."""

from __future__ import annotations

import fcntl
import json
import struct
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.mmap_dict import MmapedDict

MOST_SLOTS = 1024

_EMPTY = bytes(1 << 16)
"""Written out, since a store into a mapped hole ends the process when the disk is full."""


def take_slot(folder: Path, process: str) -> tuple[IO[str], str]:
    """The first name that no living process holds; the kernel lets go however a process ends."""
    for number in range(MOST_SLOTS):
        name = f"{process}-{number}"
        slot = (folder / f"{name}.lock").open("a", encoding="ascii")
        try:
            fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            slot.close()
        else:
            return slot, name
    raise OSError(f"more than {MOST_SLOTS} processes count in {folder}")


def open_counts(path: Path) -> MmapedDict:
    """A file of counts; one that a power failure has damaged begins at zero."""
    from prometheus_client.mmap_dict import MmapedDict

    if not is_sound(path):
        fresh = path.with_suffix(".new")
        fresh.write_bytes(_EMPTY)
        fresh.replace(path)  # so that nobody reads it before it has its first bytes
    return MmapedDict(str(path))  # type: ignore[no-untyped-call]


def is_sound(path: Path) -> bool:
    """Whether a file of counts can be read to its end."""
    from prometheus_client.mmap_dict import MmapedDict

    try:
        whole = path.stat().st_size >= len(_EMPTY)
        entries = MmapedDict.read_all_values_from_file(path)  # type: ignore[no-untyped-call]
        return whole and all(json.loads(key) for key, *_ in entries)
    except (OSError, RuntimeError, ValueError, struct.error):
        return False

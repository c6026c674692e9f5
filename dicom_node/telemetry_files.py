"""Files in which telemetry counts: one set for each slot, each slot held by one process at most."""

from __future__ import annotations

import fcntl
import math
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

MAX_SLOTS: Final = 1024
"""Processes of one name that can count at a time on one host."""

REOPEN_SECONDS: Final = 5.0
"""Interval between attempts to open the files, while the disk is full."""

_FOLDER_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

_EMPTY: Final = bytes(1 << 16)
"""Written out, since a store into a mapped hole kills the process when the disk is full."""


def take_slot(folder: Path, process: str) -> tuple[IO[str], str]:
    """Lock the first name that no living process holds; the kernel unlocks it however one ends."""
    for number in range(MAX_SLOTS):
        name = f"{process}-{number}"
        slot = (folder / f"{name}.lock").open("a", encoding="ascii")
        try:
            fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            slot.close()
        else:
            return slot, name
    raise OSError(f"more than {MAX_SLOTS} processes count in {folder}")


@contextmanager
def values_kept_in(folder: Path, slot: str) -> Iterator[None]:
    """Have prometheus_client keep values in the slot's files, which it opens within the block.

    It takes their folder from the environment, which child processes do not inherit here.
    """
    from prometheus_client import values

    for kind in ("counter", "histogram"):
        _ensure_readable(folder / f"{kind}_{slot}.db")
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]
    os.environ[_FOLDER_VARIABLE] = str(folder)
    try:
        yield
    except BaseException:
        close_values()
        raise
    finally:
        del os.environ[_FOLDER_VARIABLE]


def close_values() -> None:
    """Close the files of :func:`values_kept_in`."""
    from prometheus_client import values

    values.ValueClass.close_all_files()
    values.ValueClass = values.MutexValue


def _ensure_readable(path: Path) -> None:
    """Replace a file that is missing or was damaged by a power failure with one of zeros."""
    if not is_readable(path):
        fresh = path.with_suffix(".new")
        fresh.write_bytes(_EMPTY)
        fresh.replace(path)  # in one step, so that no reader sees it without its first bytes


def is_readable(path: Path) -> bool:
    """Whether a file of counts can be read to its end."""
    from prometheus_client.multiprocess import MultiProcessCollector

    try:
        MultiProcessCollector.merge([str(path)])  # type: ignore[no-untyped-call]
        return path.stat().st_size >= len(_EMPTY)
    except (OSError, RuntimeError, ValueError, TypeError, AttributeError, struct.error):
        return False


class RepeatedOpening:
    """Opening of the files that is tried again until it succeeds, by any of several threads.

    Args:
        begin: Opens them, or raises OSError.
    """

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin, self._lock = begin, threading.Lock()
        self._next_attempt, self._done = -math.inf, False

    def attempt(self) -> OSError | None:
        """Open the files if an attempt is due; return the error that prevents it."""
        if self._done or not self._lock.acquire(blocking=False):
            return None
        try:
            if not self._done and time.monotonic() >= self._next_attempt:
                self._begin()
                self._done = True
        except OSError as error:
            self._next_attempt = time.monotonic() + REOPEN_SECONDS
            return error
        finally:
            self._lock.release()
        return None

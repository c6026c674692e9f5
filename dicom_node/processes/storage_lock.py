"""The lock of the storage folder: one node at a time works on it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dicom_node.errors import ConfigurationError, StorageError

POLL_SECONDS = 0.1

HANDOVER_SECONDS = 60.0
"""Time to wait for the parts of a node that was killed; they notice at once and drain."""


@contextmanager
def storage_locked(storage: Path, should_stop: Callable[[], bool]) -> Iterator[int]:
    """Lock the storage folder for this node and its parts; the kernel releases it with them.

    Args:
        storage: The storage folder, created if missing.
        should_stop: Ends the wait for the parts of an earlier node.

    Yields:
        The file descriptor that holds the lock.

    Raises:
        ConfigurationError: Another node runs on the folder.
        StorageError: The folder cannot be used.
    """
    try:
        storage.mkdir(parents=True, exist_ok=True)
        lock = (storage / "node.lock").open("a+", encoding="ascii")
    except OSError as error:
        raise StorageError(
            f"The storage folder {storage} cannot be used: {error.strerror}."
        ) from error
    with lock:
        deadline = time.monotonic() + HANDOVER_SECONDS
        while not _locked(lock):
            if _holder_runs(lock) or should_stop() or time.monotonic() > deadline:
                raise ConfigurationError(
                    f"Another node runs on the storage folder {storage}: stop it first, or name"
                    " another `storage` in node.yaml."
                )
            time.sleep(POLL_SECONDS)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield lock.fileno()


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _holder_runs(lock: IO[str]) -> bool:
    """Whether the node that holds the lock still runs, and not only its parts, which are ending."""
    lock.seek(0)
    number = lock.read().strip()
    if not number.isdigit():
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

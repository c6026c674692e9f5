"""Heartbeats whose age is right even when the wall clock is set.

A heartbeat is the time of a file's last change, so that every process and host can read it. Its age
is measured by the monotonic clock of a process that reads it repeatedly.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

SWEEP_SUFFIX = ".sweep"


@dataclass(frozen=True)
class SweepBeat:
    """The last success of a sweep, in seconds since 1970, and its interval."""

    at: float
    interval_seconds: float


class SweepBeats:
    """Writer of the heartbeats of this process's sweeps.

    Args:
        folder: Folder of this host.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sweeps: dict[str, float] = {}

    def begin(self, sweeps: Mapping[str, float]) -> None:
        """Replace the sweeps of an earlier run, each with a heartbeat now.

        Sweeps of other names are removed from the folders of other hosts too: the node may have
        moved here with an upgrade that renamed them, and no process records their heartbeats.

        Args:
            sweeps: Name of each sweep, and its interval in seconds.

        Raises:
            OSError: The folder cannot be written.
        """
        self._sweeps = dict(sweeps)
        self.forget()
        for path in self._folder.parent.glob(f"*/*{SWEEP_SUFFIX}"):
            if path.stem not in sweeps:
                path.unlink(missing_ok=True)
        for name in sweeps:
            self.ensure(name)

    def ensure(self, name: str) -> None:
        """Write the first heartbeat of a sweep, if a full disk prevented it at the start.

        Raises:
            OSError: The folder cannot be written.
        """
        path = self._folder / f"{name}{SWEEP_SUFFIX}"
        if name in self._sweeps and not (path.exists() and path.stat().st_size):
            self._folder.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{self._sweeps[name]}\n", encoding="ascii")

    def forget(self) -> None:
        """Remove the sweeps of an earlier run: none is overdue until this one begins.

        Raises:
            OSError: A file cannot be removed.
        """
        for path in self._folder.glob(f"*{SWEEP_SUFFIX}"):
            path.unlink(missing_ok=True)

    def beat(self, name: str) -> None:
        """Record the success of a sweep.

        Raises:
            OSError: The file is missing.
        """
        os.utime(self._folder / f"{name}{SWEEP_SUFFIX}")


def newest_sweeps(folder: Path) -> dict[str, SweepBeat]:
    """Return the last heartbeat of each sweep on any host.

    Raises:
        OSError: The folder cannot be read.
    """
    newest: dict[str, SweepBeat] = {}
    for path in folder.glob(f"*/*{SWEEP_SUFFIX}"):
        words = path.read_text(encoding="ascii", errors="replace").strip()
        try:
            found = SweepBeat(path.stat().st_mtime, float(words))
        except ValueError:  # being written
            continue
        if path.stem not in newest or found.at > newest[path.stem].at:
            newest[path.stem] = found
    return newest


class HeartbeatAges:
    """Ages of several heartbeats, unaffected by steps of the wall clock.

    Args:
        monotonic: Monotonic clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, float]] = {}
        self._called_at = monotonic()

    def seconds_since(self, beats: Mapping[str, float], now: float) -> dict[str, float]:
        """Return the seconds since each heartbeat.

        Args:
            beats: Last heartbeats, in seconds since 1970.
            now: Time of the same clock. It gives the age of a heartbeat seen for the first time,
                but no more than the time since the last call where an earlier one was known.
        """
        with self._lock:
            at = self._monotonic()
            self._known = {
                name: self._dated(name, beat, max(0.0, now - beat), at)
                for name, beat in beats.items()
            }
            self._called_at = at
            return {name: at - beat_at for name, (_, beat_at) in self._known.items()}

    def _dated(self, name: str, beat: float, age: float, at: float) -> tuple[float, float]:
        """Return a heartbeat with its time on the monotonic clock."""
        before = self._known.get(name)
        if before is not None and before[0] == beat:
            return before
        max_age = age if before is None else at - self._called_at
        return beat, at - min(age, max_age)

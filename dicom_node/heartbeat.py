"""Signs of life that survive a clock that is set: who has beaten, and how long ago.

A beat is the time of a file's last change, so that every process and host can read it. Its age is
counted on the monotonic clock of whoever looks again and again.
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
    """When a sweep last ended well, in seconds since 1970, and how often it is due."""

    at: float
    interval_seconds: float


class SweepBeats:
    """Writes the beats of this process's sweeps.

    Args:
        folder: Of this host.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, sweeps: Mapping[str, float]) -> None:
        """Forget what another version swept, and count from now.

        Args:
            sweeps: Name of each sweep to its interval in seconds.

        Raises:
            OSError: The folder cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self.forget()
        for name, seconds in sweeps.items():
            (self._folder / f"{name}{SWEEP_SUFFIX}").write_text(f"{seconds}\n", encoding="ascii")

    def forget(self) -> None:
        """Forget what an earlier run swept: until this one begins, nothing is overdue.

        Raises:
            OSError: A file cannot be removed.
        """
        for path in self._folder.glob(f"*{SWEEP_SUFFIX}"):
            path.unlink(missing_ok=True)

    def beat(self, name: str) -> None:
        """Say that a sweep has ended well.

        Raises:
            OSError: The file is gone.
        """
        os.utime(self._folder / f"{name}{SWEEP_SUFFIX}")


def newest_sweeps(folder: Path) -> dict[str, SweepBeat]:
    """The last beat of each sweep, on whichever host it runs.

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


class Silences:
    """How long each of several has been silent; a clock set forward or back changes nothing.

    Args:
        monotonic: Seconds of a clock that nobody sets.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._heard: dict[str, tuple[float, float]] = {}
        self._looked_at = monotonic()

    def look(self, beats: Mapping[str, float], now: float) -> dict[str, float]:
        """Seconds since each last beat.

        Args:
            beats: Last beats, in seconds since 1970.
            now: The same clock's moment; believed for what was not seen before, and for no longer
                than since the last look for what was.
        """
        with self._lock:
            at = self._monotonic()
            self._heard = {
                name: self._hear(name, beat, max(0.0, now - beat), at)
                for name, beat in beats.items()
            }
            self._looked_at = at
            return {name: at - heard_at for name, (_, heard_at) in self._heard.items()}

    def _hear(self, name: str, beat: float, age: float, at: float) -> tuple[float, float]:
        """A beat, and when it was on the monotonic clock."""
        before = self._heard.get(name)
        if before is not None and before[0] == beat:
            return before
        longest = age if before is None else at - self._looked_at
        return beat, at - min(age, longest)

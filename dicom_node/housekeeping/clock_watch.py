"""Detection of steps of the wall clock, by comparison with the monotonic clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dicom_node.ledger.clock_repair import ClockStep
from dicom_node.logs import get_logger

log = get_logger(__name__)

MIN_STEP_SECONDS = 10.0
"""Smaller steps are ignored: no quiet time or lease is as short."""

MAX_READING_SECONDS = 0.5
"""Both clocks are read again if the process was stopped between the two readings for longer."""

GRACE_SECONDS = 86_400.0
"""Time after a step forward in which nothing is deleted for an age that only the step caused."""


class ClockWatch:
    """A clock that has every step repaired before it returns the new time.

    Args:
        repair: Function that adapts stored times to a step.
        wall: Wall clock, seconds since 1970.
        monotonic: Monotonic clock, in seconds.
    """

    def __init__(
        self,
        repair: Callable[[ClockStep], None],
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repair, self._wall, self._monotonic = repair, wall, monotonic
        self._lock = threading.Lock()
        self._last = self._first = self._read()
        self._ahead, self._ahead_until = 0.0, 0.0
        self._steps = 0

    @property
    def steps(self) -> int:
        """Number of steps detected so far."""
        return self._steps

    def now(self) -> float:
        """Return the wall time in seconds since 1970, after repair of all steps.

        Raises:
            StorageError: The ledger cannot be repaired now; the next call tries again.
        """
        with self._lock:
            wall, monotonic = self._read()
            passed = monotonic - self._last[1]
            by = wall - self._last[0] - passed
            if abs(by) >= MIN_STEP_SECONDS:
                self._take(ClockStep(by, passed, wall), monotonic)
            self._last = wall, monotonic
            return wall

    def steady(self) -> float:
        """Return the wall time of the watch's start plus the time since, which never steps."""
        return self._first[0] + self._monotonic() - self._first[1]

    def unhurried(self) -> float:
        """Return the wall time without recent steps forward, by which nothing ages suddenly.

        Raises:
            StorageError: As :meth:`now`.
        """
        now = self.now()
        return now - self._ahead if self._monotonic() < self._ahead_until else now

    def _take(self, step: ClockStep, monotonic: float) -> None:
        self._repair(step)
        before = self._ahead if monotonic < self._ahead_until else 0.0
        self._ahead = max(0.0, before + step.by_seconds)
        self._ahead_until = monotonic + GRACE_SECONDS
        self._steps += 1
        direction = "forward" if step.by_seconds > 0 else "back"
        log.warning(f"the clock was set {direction}", seconds=round(abs(step.by_seconds)))

    def _read(self) -> tuple[float, float]:
        """Read both clocks at the same time."""
        while True:
            before = self._monotonic()
            wall = self._wall()
            after = self._monotonic()
            if after - before <= MAX_READING_SECONDS:
                return wall, after

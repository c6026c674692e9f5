"""The wall clock, and the steps that it makes: seen by the monotonic clock, which nobody sets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dicom_node.ledger.clock_repair import ClockStep
from dicom_node.logs import get_logger

log = get_logger(__name__)

MIN_STEP_SECONDS = 10.0
"""A smaller step is left alone: no quiet time or lease is as short."""

MAX_READING_SECONDS = 0.5
"""A process that is stopped between its looks at both clocks looks again."""

FORGIVING_SECONDS = 86_400.0
"""So long after a step forward nothing is deleted for its age by the new time alone."""


class ClockWatch:
    """Tells the time, and has every step repaired before anybody hears the new time.

    Args:
        repair: Brings what was written by the old time to the new.
        wall: Seconds since 1970.
        monotonic: Seconds of a clock that nobody sets.
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
        """How many steps were seen so far."""
        return self._steps

    def now(self) -> float:
        """Seconds since 1970, all steps until now repaired.

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
        """Seconds since this watch began, after the time of then: never steps."""
        return self._first[0] + self._monotonic() - self._first[1]

    def unhurried(self) -> float:
        """The time, but for what steps forward have added lately: nothing is old of a sudden.

        Raises:
            StorageError: As :meth:`now`.
        """
        now = self.now()
        return now - self._ahead if self._monotonic() < self._ahead_until else now

    def _take(self, step: ClockStep, monotonic: float) -> None:
        self._repair(step)
        before = self._ahead if monotonic < self._ahead_until else 0.0
        self._ahead = max(0.0, before + step.by_seconds)
        self._ahead_until = monotonic + FORGIVING_SECONDS
        self._steps += 1
        way = "forward" if step.by_seconds > 0 else "back"
        log.warning(f"the clock was set {way}", seconds=round(abs(step.by_seconds)))

    def _read(self) -> tuple[float, float]:
        """Both clocks at one moment."""
        while True:
            before = self._monotonic()
            wall = self._wall()
            after = self._monotonic()
            if after - before <= MAX_READING_SECONDS:
                return wall, after

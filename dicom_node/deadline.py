"""Deadlines of exchanges with other systems: total, whatever trickles in meanwhile.

A socket's own timeout starts anew with every byte, so that a peer which sends one now and then
would hold its caller for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable

STOP_GRACE_SECONDS = 5.0
"""Time that an exchange under way still has once this process is to stop."""

POLL_SECONDS = 0.25
"""Longest wait in one piece, so that a stop is noticed while a peer is silent."""

MIN_BYTES_PER_SECOND = 16 << 10
"""A peer that takes what it is sent more slowly is given up."""


def _never() -> bool:
    return False


class Deadline:
    """The moment by which one exchange must be over.

    It draws near when the process is to stop: whoever waits has `STOP_GRACE_SECONDS` left.

    Args:
        seconds: From now.
        should_stop: Whether the process is to stop.
        clock: Monotonic, in seconds.
    """

    def __init__(
        self,
        seconds: float,
        should_stop: Callable[[], bool] = _never,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._should_stop, self._clock = should_stop, clock
        self._ends_at = clock() + seconds
        self._stopping = False

    def remaining(self) -> float:
        """Return the seconds that are left, 0 or less once it has passed."""
        now = self._clock()
        if not self._stopping and self._should_stop():
            self._stopping = True
            self._ends_at = min(self._ends_at, now + STOP_GRACE_SECONDS)
        return self._ends_at - now

    def wait_seconds(self) -> float:
        """Return how long to wait in one piece.

        Raises:
            TimeoutError: It has passed.
        """
        remaining = self.remaining()
        if remaining <= 0:
            raise TimeoutError("the deadline has passed")
        return min(remaining, POLL_SECONDS)


def sending_seconds(size: int) -> float:
    """Return how long a peer may take for so many bytes."""
    return size / MIN_BYTES_PER_SECOND

"""Total deadlines for exchanges with other systems.

A socket's own timeout starts anew with every byte, so that a peer which sends one now and then
would block its caller for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable

STOP_GRACE_SECONDS = 5.0
"""Time left to an exchange in progress once this process is to stop."""

POLL_SECONDS = 0.25
"""Longest single wait, so that a stop is noticed while a peer is silent."""

MIN_BYTES_PER_SECOND = 16 << 10
"""A peer that accepts data more slowly is given up."""


def _never() -> bool:
    return False


class Deadline:
    """The time by which one exchange must be over.

    Once the process is to stop, at most `STOP_GRACE_SECONDS` are left.

    Args:
        seconds: Time from now.
        should_stop: Whether the process is to stop.
        clock: Monotonic clock, in seconds.
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
        """Return the seconds left, 0 or less once the deadline has passed."""
        now = self._clock()
        if not self._stopping and self._should_stop():
            self._stopping = True
            self._ends_at = min(self._ends_at, now + STOP_GRACE_SECONDS)
        return self._ends_at - now

    def wait_seconds(self) -> float:
        """Return the timeout of the next single wait.

        Raises:
            TimeoutError: The deadline has passed.
        """
        remaining = self.remaining()
        if remaining <= 0:
            raise TimeoutError("the deadline has passed")
        return min(remaining, POLL_SECONDS)


def sending_seconds(size: int) -> float:
    """Return the time allowed for sending a number of bytes."""
    return size / MIN_BYTES_PER_SECOND

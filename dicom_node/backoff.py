"""Exponential backoff: a delay that doubles with each failure in a row, up to a maximum."""

from __future__ import annotations

MAX_DOUBLINGS = 30
"""More would overflow long before any maximum is reached."""


def backoff_seconds(failures: int, first_seconds: float, max_seconds: float) -> float:
    """Delay after a number of failures in a row.

    Args:
        failures: At least 1.
        first_seconds: Delay after the first failure.
        max_seconds: Longest delay.
    """
    return min(first_seconds * 2.0 ** min(failures - 1, MAX_DOUBLINGS), max_seconds)


class Backoff:
    """Delays between attempts at something that keeps failing.

    Args:
        first_seconds: Delay after the first failure.
        max_seconds: Longest delay.
    """

    def __init__(self, first_seconds: float, max_seconds: float) -> None:
        self._first_seconds, self._max_seconds = first_seconds, max_seconds
        self._failures = 0

    def next_seconds(self) -> float:
        """Count a failure and return the delay before the next attempt."""
        self._failures += 1
        return backoff_seconds(self._failures, self._first_seconds, self._max_seconds)

    def reset(self) -> None:
        """Start again from the first delay, after a success."""
        self._failures = 0

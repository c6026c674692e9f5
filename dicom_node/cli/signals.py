"""Signals: flags to stop and to reload that they set, and the orderly end of a command."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_SECONDS = 60.0
"""Time for a part to stop in after its node has died, before it exits at once."""


class StopFlag:
    """A flag that is true once the process must end; set by SIGTERM or SIGINT.

    Args:
        supervised: Also set it when standard input closes. The node holds the other end, so the
            kernel closes it however the node dies, even by kill -9.
    """

    def __init__(self, *, supervised: bool = False) -> None:
        self._is_set = False  # a lock would be taken twice if a signal interrupts its own handler
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        if supervised:
            threading.Thread(target=self._watch_node, name="watch-node", daemon=True).start()

    def __call__(self) -> bool:
        """Whether to stop."""
        return self._is_set

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._is_set = True

    def _watch_node(self) -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        if not self._is_set:
            self._is_set = True
            threading.Timer(GRACE_SECONDS, os._exit, args=(1,)).start()


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does: what it has begun is removed.

    A signal that the caller ignores, as under ``nohup``, stays ignored.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    changed = {number: how for number, how in before.items() if how is not signal.SIG_IGN}
    for number in changed:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number, how in changed.items():
            signal.signal(number, how)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


class ReloadFlag:
    """A flag that is true once after each SIGHUP, which would otherwise end the process."""

    def __init__(self) -> None:
        self._is_set = False
        signal.signal(signal.SIGHUP, self._on_signal)
        # The node blocks it in its parts until they can handle it; an earlier one is delivered now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def __call__(self) -> bool:
        """Whether to reload what can change while the process runs; reading it resets the flag."""
        if not self._is_set:
            return False
        self._is_set = False
        return True

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._is_set = True

"""When a process of the node must end or read its rules again: signals, or the end of the node."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

GRACE_SECONDS = 60.0
"""How long a part may go on after its node has died, before it ends without further ado."""


class StopFlag:
    """True once the process must end; set by SIGTERM or SIGINT.

    Args:
        supervised: Also set when standard input closes. The node holds the other end, so the kernel
            closes it however the node dies, kill -9 included.
    """

    def __init__(self, *, supervised: bool = False) -> None:
        self._event = threading.Event()
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        if supervised:
            threading.Thread(target=self._watch_node, name="watch-node", daemon=True).start()

    def __call__(self) -> bool:
        """Whether to stop."""
        return self._event.is_set()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._event.set()

    def _watch_node(self) -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        if not self._event.is_set():
            self._event.set()
            threading.Timer(GRACE_SECONDS, os._exit, args=(1,)).start()


class ReloadFlag:
    """True once after each SIGHUP, which would otherwise end the process."""

    def __init__(self) -> None:
        self._event = threading.Event()
        signal.signal(signal.SIGHUP, self._on_signal)
        # The node blocks it in its parts until they can handle it; what came before counts now.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def __call__(self) -> bool:
        """Whether to read again what can change while the process runs; asking takes the wish."""
        if not self._event.is_set():
            return False
        self._event.clear()
        return True

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._event.set()

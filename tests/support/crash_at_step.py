"""Run ``dicom-node COMMAND...`` and kill it just before its Nth step.

Usage: ``python crash_at_step.py N COMMAND...``

A step is whatever others may see or a power cut may leave: a file brought to the disk, renamed or
removed, a transaction that changes something, bytes on a socket. The death is a SIGKILL: no
handler, no ``finally``, no buffer is written.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, event

CHANGES = frozenset({"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"})
"""Events of the interpreter (PEP 578) that change the disk."""


class Countdown:
    """Kills this process before its last step."""

    def __init__(self, steps: int) -> None:
        self._left = steps
        self._lock = threading.Lock()
        self._changes: dict[int, int] = {}

    def step(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def on_event(self, name: str, _arguments: tuple[object, ...]) -> None:
        if name in CHANGES:
            self.step()

    def on_commit(self, connection: Connection) -> None:
        """A step only if something was changed: idle parts look for work several times a second."""
        driver: Any = connection.connection.dbapi_connection
        total = getattr(driver, "total_changes", None)
        if total is None or total != self._changes.get(id(driver)):
            self._changes[id(driver)] = total or 0
            self.step()

    def before(self, owner: object, name: str) -> None:
        """Count the calls of a function."""
        real: Callable[..., Any] = getattr(owner, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            self.step()
            return real(*arguments, **options)

        setattr(owner, name, counted)


def main() -> None:
    countdown = Countdown(int(sys.argv[1]))
    sys.argv = ["dicom-node", *sys.argv[2:]]
    from dicom_node.cli import main as command

    sys.addaudithook(countdown.on_event)
    event.listen(Engine, "commit", countdown.on_commit)
    for owner, name in (
        (os, "fsync"),
        (os, "fdatasync"),
        (socket.socket, "send"),
        (socket.socket, "sendall"),
        (socket.socket, "sendmsg"),
    ):
        countdown.before(owner, name)
    command()


if __name__ == "__main__":
    main()

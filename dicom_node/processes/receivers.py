"""Several receiver processes on one port, for machines with many cores."""

from __future__ import annotations

import errno
import socket
import time
from pathlib import Path

from dicom_node.errors import ConfigurationError
from dicom_node.processes.parts import ShouldStop, log_exposures
from dicom_node.processes.supervision import ChildProcess
from dicom_node.settings import Settings

POLL_SECONDS = 0.1

TAKEOVER_SECONDS = 10.0
"""Time to wait for the port that the receivers of a killed supervisor are leaving."""

RECEIVER_DRAIN_SECONDS = 40.0
"""Time for each receiver to stop in; less than that of the part that supervises them."""


def run_receivers(config: Path | None, settings: Settings, *, should_stop: ShouldStop) -> None:
    """Run several receivers on one port, each a process of its own, restarted when it dies.

    They share a listening socket that this process holds, so that the port is never closed while
    one of them restarts, and no other program can take it.

    Raises:
        ConfigurationError: The address or port is not available, or a receiver refuses to start.
    """
    log_exposures(settings)
    with _shared_listener(settings, should_stop) as listener:
        descriptor = listener.fileno()
        words = ["receive", "--listener", str(descriptor)]
        children = [
            ChildProcess(
                words, config, drain_seconds=RECEIVER_DRAIN_SECONDS, inherited=[descriptor]
            )
            for _ in range(settings.listen.processes)
        ]
        try:
            while not should_stop():
                for child in children:
                    child.check()
                time.sleep(POLL_SECONDS)
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.wait()


def _shared_listener(settings: Settings, should_stop: ShouldStop) -> socket.socket:
    """Open the listening socket, waiting for receivers of a killed supervisor to leave the port."""
    from dicom_node.receiving.listening import listen

    deadline = time.monotonic() + TAKEOVER_SECONDS
    while True:
        try:
            return listen(settings)
        except ConfigurationError as error:
            busy = getattr(error.__cause__, "errno", None) == errno.EADDRINUSE
            if not busy or should_stop() or time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)

"""The node: start its parts, restart those that die, and stop all in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dicom_node.ledger.engine import open_ledger
from dicom_node.logs import get_logger
from dicom_node.processes.observation import forget_counts
from dicom_node.processes.parts import START_ORDER, ShouldStop
from dicom_node.processes.storage_lock import storage_locked
from dicom_node.processes.supervision import ChildProcess
from dicom_node.settings import Settings

log = get_logger(__name__)

POLL_SECONDS = 0.1


def run_node(
    config: Path | None,
    settings: Settings,
    *,
    should_stop: ShouldStop,
    should_reload: Callable[[], bool] = lambda: False,
) -> None:
    """Run every part as a process of its own until told to stop.

    Args:
        config: The configuration file, for the parts.
        settings: The same configuration, loaded.
        should_stop: Asked ten times a second.
        should_reload: Whether the parts are to reload what can change while they run.

    Raises:
        ConfigurationError: Another node runs on this storage, or a part refuses to start.
        StorageError: The storage folder cannot be used.
    """
    with storage_locked(settings.storage, should_stop) as lock:
        open_ledger(settings.database).close()  # migrate once, before the parts open it
        forget_counts(settings)
        # The parts share the lock, so that the next node waits for them.
        children = [
            ChildProcess([part.command], config, drain_seconds=part.drain_seconds, inherited=[lock])
            for part in START_ORDER
        ]
        try:
            log.info("node started", ae_title=settings.ae_title, port=settings.listen.port)
            while not should_stop():
                reload = should_reload()
                for child in children:
                    child.check()
                    if reload:
                        child.reload()
                time.sleep(POLL_SECONDS)
        finally:
            log.info("node stopping")
            _stop(children)
            log.info("node stopped")


def _stop(children: Sequence[ChildProcess]) -> None:
    """Stop the receiver first, then let the other parts finish their current work."""
    *others, receiver = children
    receiver.terminate()
    receiver.wait()
    for child in others:
        child.terminate()
    for child in others:
        child.wait()

"""The only wiring: which processes the node is made of, in which order they start and stop."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from dicom_node.audit import Audit
from dicom_node.errors import ConfigurationError, StorageError
from dicom_node.ledger.engine import open_ledger
from dicom_node.logs import get_logger
from dicom_node.processes.observation import (
    beating,
    certificate_days,
    forget_counts,
    forget_sweeps,
    observed,
)
from dicom_node.processes.supervision import Child
from dicom_node.settings import Settings
from dicom_node.settings.exposure import every_exposure

log = get_logger(__name__)

ShouldStop = Callable[[], bool]

POLL_SECONDS = 0.1

HANDOVER_SECONDS = 60.0
"""How long a node waits for the parts of one that was killed; they notice at once and drain."""


@dataclass(frozen=True)
class Part:
    """One process of the node.

    Attributes:
        command: The command that runs it alone.
        drain_seconds: How long it may take to stop before it is killed.
    """

    command: str
    drain_seconds: float


TAKEOVER_SECONDS = 10.0
"""How long several receivers wait for the port that those of a killed supervisor are leaving."""

WORKER_NICENESS = 10

RECEIVER_DRAIN_SECONDS = 40.0
"""How long each of several receivers may take to stop; less than the part that holds them."""

START_ORDER = (
    Part("work", drain_seconds=60.0),
    Part("deliver", drain_seconds=30.0),
    Part("serve", drain_seconds=15.0),
    Part("receive", drain_seconds=45.0),
)
"""The door opens last and closes first."""


def run_part(
    command: str,
    settings: Settings,
    *,
    should_stop: ShouldStop,
    should_reload: Callable[[], bool] = lambda: False,
    listener: socket.socket | None = None,
) -> None:
    """Run one part of the node in this process until told to stop, or to read its rules again.

    Each part imports only what it needs: the receiver carries no torch.

    Args:
        command: Which part.
        settings: The configuration.
        should_stop: Asked several times a second.
        should_reload: Whether to read the rules again.
        listener: For one of several receivers: the listening socket that they share.

    Raises:
        NodeError: The part cannot start.
    """
    with observed(command, settings) as audit:
        if command == "receive":
            from dicom_node.receiving.process import run_receiver

            if listener is None:
                _tell_exposures(settings)
            run_receiver(settings, should_stop=beating(should_stop), audit=audit, listener=listener)
        else:
            _run_body(command, settings, audit, beating(should_stop), should_reload)


def run_receivers(config: Path | None, settings: Settings, *, should_stop: ShouldStop) -> None:
    """Run several receivers on one port: each a process of its own, restarted when it dies.

    They share a listening socket that this process holds, so that the port is never closed while
    one of them restarts, and no other program can have it.

    Raises:
        ConfigurationError: The address or port cannot be had, or a receiver refuses to start.
    """
    _tell_exposures(settings)
    with _shared_listener(settings, should_stop) as listener:
        door = listener.fileno()
        words = ["receive", "--listener", str(door)]
        children = [
            Child(words, config, drain_seconds=RECEIVER_DRAIN_SECONDS, inherited=[door])
            for _ in range(settings.listen.processes)
        ]
        try:
            while not should_stop():
                for child in children:
                    child.look_after()
                time.sleep(POLL_SECONDS)
        finally:
            for child in children:
                child.ask_to_end()
            for child in children:
                child.wait()


def _tell_exposures(settings: Settings) -> None:
    """Write into the log what is open to others; the receiver does it, wherever it runs."""
    for exposure in every_exposure(settings):
        log.warning("open to others", reason=exposure)


def _shared_listener(settings: Settings, should_stop: ShouldStop) -> socket.socket:
    """A listening socket; receivers of a supervisor that was killed may still hold the port."""
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


def _run_body(
    command: str,
    settings: Settings,
    audit: Audit,
    should_stop: ShouldStop,
    should_reload: Callable[[], bool],
) -> None:
    if command == "work":
        from dicom_node.denoising.worker import run_worker

        _step_back()
        run_worker(settings, should_stop=should_stop)
    elif command == "deliver":
        from dicom_node.sending import run_sender
        from dicom_node.sending.routes import PeerTransport

        transport = PeerTransport(settings)
        run_sender(settings, transport=transport, should_stop=should_stop, audit=audit)
    else:
        from dicom_node.housekeeping import run_housekeeping
        from dicom_node.web import web_served

        forget_sweeps(settings)
        days = partial(certificate_days, settings)
        with web_served(settings, certificate_days=days, should_stop=should_stop):
            run_housekeeping(
                settings, should_stop=should_stop, should_reload=should_reload, audit=audit
            )


def _step_back() -> None:
    """Leave the processors to whoever receives: an image waits for its answer, a job does not."""
    os.nice(WORKER_NICENESS)
    with suppress(OSError):  # where the kernel shares time by session first, as desktops do
        Path("/proc/self/autogroup").write_text(f"{WORKER_NICENESS}\n", encoding="ascii")


def run_node(
    config: Path | None,
    settings: Settings,
    *,
    should_stop: ShouldStop,
    should_reload: Callable[[], bool] = lambda: False,
) -> None:
    """Start every part as a process of its own, restart what dies, and stop all in order.

    Args:
        config: Handed on to the parts.
        settings: The same, read.
        should_stop: Asked ten times a second.
        should_reload: Whether the parts are to read again what can change while they run.

    Raises:
        ConfigurationError: Another node runs on this storage, or a part refuses to start.
        StorageError: The storage folder cannot be used.
    """
    with _only_node(settings.storage, should_stop) as lock:
        open_ledger(settings.database).close()  # migrate once, before the parts open it
        forget_counts(settings)
        # The parts share the lock, so that the next node waits for them.
        children = [
            Child([part.command], config, drain_seconds=part.drain_seconds, inherited=[lock])
            for part in START_ORDER
        ]
        try:
            log.info("node started", ae_title=settings.ae_title, port=settings.listen.port)
            while not should_stop():
                reload = should_reload()
                for child in children:
                    child.look_after()
                    if reload:
                        child.ask_to_reload()
                time.sleep(POLL_SECONDS)
        finally:
            log.info("node stopping")
            _stop(children)
            log.info("node stopped")


def _stop(children: Sequence[Child]) -> None:
    """Close the door first, then let the other parts finish what they have in hand."""
    *inside, door = children
    door.ask_to_end()
    door.wait()
    for child in inside:
        child.ask_to_end()
    for child in inside:
        child.wait()


@contextmanager
def _only_node(storage: Path, should_stop: ShouldStop) -> Iterator[int]:
    """Hold the storage folder for this node and its parts; the kernel lets go however they end.

    Yields:
        The file descriptor that holds the lock.
    """
    try:
        storage.mkdir(parents=True, exist_ok=True)
        lock = (storage / "node.lock").open("a+", encoding="ascii")
    except OSError as error:
        raise StorageError(
            f"The storage folder {storage} cannot be used: {error.strerror}."
        ) from error
    with lock:
        deadline = time.monotonic() + HANDOVER_SECONDS
        while not _locked(lock):
            if _holder_lives(lock) or should_stop() or time.monotonic() > deadline:
                raise ConfigurationError(
                    f"Another node runs on the storage folder {storage}: stop it first, or name"
                    " another `storage` in node.yaml."
                )
            time.sleep(POLL_SECONDS)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield lock.fileno()


def _locked(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _holder_lives(lock: IO[str]) -> bool:
    """Whether the node that holds the lock runs; if not, only its parts are still ending."""
    lock.seek(0)
    number = lock.read().strip()
    if not number.isdigit():
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

"""The only wiring: which processes the node is made of, in which order they start and stop."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dicom_node.audit import Audit
from dicom_node.errors import ConfigurationError, StorageError
from dicom_node.ledger.engine import open_ledger
from dicom_node.logs import get_logger
from dicom_node.observation import beating, certificate_days, forget_counts, observed
from dicom_node.settings import Settings

log = get_logger(__name__)

ShouldStop = Callable[[], bool]

POLL_SECONDS = 0.1

START_SECONDS = 30.0
"""A part that refuses its configuration within this time ends the node: nobody would notice a node
that keeps failing quietly. Later it is restarted, since it ran with this configuration before."""

FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 60.0
"""A part that dies again and again is restarted after 1, 2, 4 ... 60 seconds."""

STEADY_SECONDS = 60.0
"""A part that has run this long has recovered: its next restart comes at once again."""

HANDOVER_SECONDS = 60.0
"""How long a node waits for the parts of one that was killed; they notice at once and drain."""

_REFUSED_CONFIGURATION = 2


@dataclass(frozen=True)
class Part:
    """One process of the node.

    Attributes:
        command: The command that runs it alone.
        drain_seconds: How long it may take to stop before it is killed.
    """

    command: str
    drain_seconds: float


START_ORDER = (
    Part("work", drain_seconds=60.0),
    Part("deliver", drain_seconds=90.0),
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
) -> None:
    """Run one part of the node in this process until told to stop, or to read its rules again.

    Each part imports only what it needs: the receiver carries no torch.

    Raises:
        NodeError: The part cannot start.
    """
    with observed(command, settings) as audit:
        _run_body(command, settings, audit, beating(should_stop), should_reload)


def _run_body(
    command: str,
    settings: Settings,
    audit: Audit,
    should_stop: ShouldStop,
    should_reload: Callable[[], bool],
) -> None:
    if command == "receive":
        from dicom_node.net.receiver import run_receiver

        run_receiver(settings, should_stop=should_stop, audit=audit)
    elif command == "work":
        from dicom_node.worker import run_worker

        run_worker(settings, should_stop=should_stop)
    elif command == "deliver":
        from dicom_node.net.transport import PeerTransport
        from dicom_node.sending import run_sender

        transport = PeerTransport(settings)
        run_sender(settings, transport=transport, should_stop=should_stop, audit=audit)
    else:
        from dicom_node.housekeeping import run_housekeeping
        from dicom_node.web import web_served

        with web_served(settings, certificate_days=lambda: certificate_days(settings)):
            run_housekeeping(settings, should_stop=should_stop, should_reload=should_reload)


def run_node(config: Path | None, settings: Settings, *, should_stop: ShouldStop) -> None:
    """Start every part as a process of its own, restart what dies, and stop all in order.

    Args:
        config: Handed on to the parts.
        settings: The same, read.
        should_stop: Asked ten times a second.

    Raises:
        ConfigurationError: Another node runs on this storage, or a part refuses to start.
        StorageError: The storage folder cannot be used.
    """
    with _only_node(settings.storage, should_stop) as lock:
        open_ledger(settings.database).close()  # migrate once, before the parts open it
        forget_counts(settings)
        children = [_Child(part, config, lock) for part in START_ORDER]
        try:
            log.info("node started", ae_title=settings.ae_title, port=settings.listen.port)
            while not should_stop():
                for child in children:
                    child.look_after()
                time.sleep(POLL_SECONDS)
        finally:
            log.info("node stopping")
            _stop(children)
            log.info("node stopped")


def _stop(children: Sequence[_Child]) -> None:
    """Close the door first, then let the other parts finish what they have in hand."""
    *inside, door = children
    door.ask_to_end()
    door.wait()
    for child in inside:
        child.ask_to_end()
    for child in inside:
        child.wait()


class _Child:
    """A part's process: started, watched, restarted with growing delay."""

    def __init__(self, part: Part, config: Path | None, lock: int) -> None:
        self._part = part
        self._lock = lock
        self._command = [sys.executable, "-m", "dicom_node.cli", part.command, "--supervised"]
        if config is not None:
            self._command += ["--config", str(config)]
        self._process: subprocess.Popen[bytes] | None = None
        self._first_start = self._started = self._next_start = time.monotonic()
        self._delay = FIRST_DELAY_SECONDS

    def look_after(self) -> None:
        """Start the process when it is due; notice when it has died."""
        now = time.monotonic()
        if self._process is None:
            if now >= self._next_start:
                self._start(now)
        elif self._process.poll() is not None:
            self._plan_restart(now, self._process.returncode)

    def ask_to_end(self) -> None:
        """Tell the process to drain and end."""
        if self._process is not None:
            self._process.terminate()

    def wait(self) -> None:
        """Wait while the process drains, then kill it."""
        if self._process is None:
            return
        try:
            self._process.wait(self._part.drain_seconds)
        except subprocess.TimeoutExpired:
            log.warning("part killed: it did not stop", part=self._part.command)
            self._process.kill()
            self._process.wait()
        self._close_pipe()

    def _start(self, now: float) -> None:
        # Its standard input is how it notices that this process is gone. It shares the lock, so
        # that the next node waits for it. A session of its own keeps a Ctrl-C in the terminal
        # from reaching it before its turn to stop.
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            start_new_session=True,
            pass_fds=[self._lock],
        )
        self._started = now
        log.info("part started", part=self._part.command, pid=self._process.pid)

    def _plan_restart(self, now: float, code: int) -> None:
        self._close_pipe()
        self._process = None
        if code == _REFUSED_CONFIGURATION and now - self._first_start < START_SECONDS:
            raise ConfigurationError(
                f"The node cannot start: its part `{self._part.command}` says why above."
            )
        if now - self._started > STEADY_SECONDS:
            self._delay = FIRST_DELAY_SECONDS
        log.error("part died", part=self._part.command, code=code, restart_in_seconds=self._delay)
        self._next_start = now + self._delay
        self._delay = min(2 * self._delay, LONGEST_DELAY_SECONDS)

    def _close_pipe(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()


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

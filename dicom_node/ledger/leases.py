"""Owners of claims, and the heartbeat that keeps a lease while they work."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dicom_node.errors import StorageError
from dicom_node.ledger.claim import LEASE_SECONDS, Claim
from dicom_node.logs import get_logger

log = get_logger(__name__)

BEATS_PER_LEASE = 3
"""Heartbeats within one lease; two of them may fail."""

OUTAGE_LOG_SECONDS = 60.0
"""Interval at which an outage that lasts is logged again."""

POLL_SECONDS = 0.5
"""Pause of an idle process before it asks for work again."""


def owner_name() -> str:
    """Return the name of this process as an owner: host, process space, process, its start."""
    pid = os.getpid()
    return f"{_machine()} {pid} {_started(pid)}"


def is_dead(owner: str) -> bool:
    """Return whether an owner is known to have ended; only for owners on this machine."""
    machine, _, process = owner.rpartition(" ")
    machine, _, pid = machine.rpartition(" ")
    return machine == _machine() and pid.isdigit() and _started(int(pid)) != process


class Heartbeat:
    """Extend the lease of a claim from a thread of its own while the block runs.

    Args:
        claim: The work in hand.
        lease_seconds: How long each beat keeps it.
        monotonic: Clock that nobody sets, in seconds.

    Attributes:
        lost: Set once the work belongs to somebody else, or its lease may have expired.
    """

    def __init__(
        self,
        claim: Claim[Any, Any],
        *,
        lease_seconds: float = LEASE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lost = threading.Event()
        self._claim, self._lease_seconds, self._monotonic = claim, lease_seconds, monotonic
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        lease_until = self._monotonic() + self._lease_seconds
        while not self._ended.wait(self._lease_seconds / BEATS_PER_LEASE):
            asked_at = self._monotonic()
            try:
                held = self._claim.beat(self._lease_seconds)
                lease_until = asked_at + self._lease_seconds
            except StorageError as error:
                log.warning("heartbeat failed", reason=str(error))
                held = self._monotonic() < lease_until
            if not held:
                self.lost.set()
                return


class OutageLog:
    """Log of an outage of disk or ledger: when it begins or changes, and once a minute.

    Args:
        monotonic: Clock that nobody sets, in seconds.
        fields: Fields of each line.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, **fields: str) -> None:
        self._monotonic, self._fields = monotonic, fields
        self._reason, self._logged_at = "", 0.0

    def report(self, error: StorageError) -> None:
        """Log the fault, unless the same was logged within the last minute."""
        reason, now = str(error), self._monotonic()
        if reason == self._reason and now < self._logged_at + OUTAGE_LOG_SECONDS:
            return
        self._reason, self._logged_at = reason, now
        what = "ledger" if reason.startswith("The ledger") else "disk"
        log.error(f"waiting for the {what}", **self._fields, reason=reason)


def work_until(step: Callable[[Callable[[], bool]], bool], should_stop: Callable[[], bool]) -> None:
    """Repeat a step until ``should_stop``; pause when it finds no work or no ledger."""
    outage = OutageLog()
    while not should_stop():
        try:
            worked = step(should_stop)
        except StorageError as error:
            outage.report(error)
            worked = False
        if not worked:
            time.sleep(POLL_SECONDS)


def _machine() -> str:
    """Return host and process space: containers on one host may see different processes."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = "-"
    return f"{platform.node()} {space}"


def _started(pid: int) -> str:
    """Return the start of a process in its kernel's ticks; empty when it does not run.

    Without /proc every process counts as running: its lease has to run out.
    """
    if not Path("/proc/self/stat").exists():
        return "-"
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    fields = status.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]

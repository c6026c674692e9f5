"""Who holds a job, and that it still works: owners' names, heartbeats, faults."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from dicom_node.errors import NodeError, StorageError
from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.jobs import LEASE_SECONDS, fail, heartbeat, retry_later
from dicom_node.ledger.model import Job
from dicom_node.logs import get_logger, where
from dicom_node.settings import RetrySettings

log = get_logger(__name__)

BEATS_PER_LEASE = 3

POLL_SECONDS = 0.5
"""How long an idle process waits before it asks for work again."""


def owner_name() -> str:
    """Name of this process as a job's owner: host, process space, process, moment of its start."""
    pid = os.getpid()
    return f"{_machine()} {pid} {_started(pid)}"


def is_dead(owner: str) -> bool:
    """Whether an owner is known to be gone: only of processes that could be seen from here."""
    machine, _, process = owner.rpartition(" ")
    machine, _, pid = machine.rpartition(" ")
    return machine == _machine() and pid.isdigit() and _started(int(pid)) != process


class Heartbeat:
    """Extends a job's lease from a thread of its own while the block runs.

    Attributes:
        lost: Set once the job belongs to somebody else, or could have been taken for lost.
    """

    def __init__(
        self,
        ledger: Ledger,
        job: Job,
        *,
        owner: str,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.lost = threading.Event()
        self._ledger, self._job, self._owner = ledger, job, owner
        self._lease_seconds, self._clock = lease_seconds, clock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{job.id}", daemon=True)

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
        lease_until = self._clock() + self._lease_seconds
        while not self._ended.wait(self._lease_seconds / BEATS_PER_LEASE):
            now = self._clock()
            try:
                held = heartbeat(
                    self._ledger,
                    self._job.id,
                    owner=self._owner,
                    lease_seconds=self._lease_seconds,
                    now=now,
                )
                lease_until = now + self._lease_seconds
            except StorageError as error:
                log.warning("heartbeat failed", job=self._job.id, reason=str(error))
                held = now < lease_until
            if not held:
                self.lost.set()
                return


def work_until(step: Callable[[Callable[[], bool]], bool], should_stop: Callable[[], bool]) -> None:
    """Repeat a step until told to stop; pause when it finds nothing to do or no ledger to ask."""
    while not should_stop():
        try:
            worked = step(should_stop)
        except StorageError as error:
            log.error("waiting for the disk", reason=str(error))
            worked = False
        if not worked:
            time.sleep(POLL_SECONDS)


def settle_fault(
    ledger: Ledger, job: Job, error: Exception, *, owner: str, retry: RetrySettings, now: float
) -> Job:
    """Put a job whose stage went wrong where it belongs: RETRY_WAIT, or FAILED.

    What this program foresees says itself whether it passes. Anything else (a fault of a driver,
    of the memory, of this program) may pass, so it is tried again as often as any passing fault.

    Raises:
        LeaseLost: The job is no longer this owner's.
    """
    if isinstance(error, NodeError):
        reason, passing = str(error), error.transient
    else:
        reason, passing = f"unexpected {where(error)}", True
    if passing and job.attempts < retry.attempts:
        next_at = now + retry.delay_seconds(job.attempts)
        settled = retry_later(ledger, job.id, owner=owner, reason=reason, next_at=next_at, now=now)
    else:
        spent = f" (after {job.attempts} attempts)" if passing else ""
        settled = fail(ledger, job.id, owner=owner, reason=f"{reason}{spent}", now=now)
    log.warning("job stopped", state=settled.state, attempt=job.attempts, reason=settled.reason)
    return settled


def _machine() -> str:
    """Host and process space: containers on one host may see different processes."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = "-"
    return f"{platform.node()} {space}"


def _started(pid: int) -> str:
    """When a process started, in its kernel's ticks; empty when it does not run.

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

"""Who holds a job or a delivery, and that it still works: owners, heartbeats, faults."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from dicom_node.errors import DeviceFault, NodeError, StorageError
from dicom_node.ledger.deliveries import beat_delivery, postpone, refuse
from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.jobs import LEASE_SECONDS, fail, heartbeat, retry_later
from dicom_node.ledger.model import Delivery, Job
from dicom_node.logs import error_location, get_logger
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
    """Extends the lease of a job or delivery from a thread of its own while the block runs.

    Attributes:
        lost: Set once it belongs to somebody else, or could have been taken for lost.
    """

    def __init__(
        self,
        ledger: Ledger,
        held: Job | Delivery,
        *,
        owner: str,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lost = threading.Event()
        self._ledger, self._held, self._owner = ledger, held, owner
        self._extend = beat_delivery if isinstance(held, Delivery) else heartbeat
        self._lease_seconds, self._clock, self._monotonic = lease_seconds, clock, monotonic
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
                held = self._extend(
                    self._ledger,
                    self._held.id,
                    owner=self._owner,
                    lease_seconds=self._lease_seconds,
                    now=self._clock(),
                )
                lease_until = asked_at + self._lease_seconds
            except StorageError as error:
                log.warning("heartbeat failed", reason=str(error))
                held = self._monotonic() < lease_until
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
    """Put a job whose denoising went wrong where it belongs: RETRY_WAIT, or FAILED.

    What this program foresees says itself whether it passes; a full disk passes, however long it
    takes. Anything else (a fault of a driver, of the memory, of this program) may pass, so it is
    tried again until the attempts are spent.

    Raises:
        LeaseLost: The job is no longer this owner's.
    """
    fault = _Fault.of(error, job, retry)
    if fault.passing:
        settled = retry_later(
            ledger,
            job.id,
            owner=owner,
            reason=fault.reason,
            next_at=now + fault.delay_seconds,
            counted=fault.counted,
            now=now,
        )
    else:
        settled = fail(ledger, job.id, owner=owner, reason=fault.reason, now=now)
    log.warning("job stopped", state=settled.state, attempt=job.attempts, reason=settled.reason)
    return settled


def settle_delivery_fault(
    ledger: Ledger,
    delivery: Delivery,
    error: Exception,
    *,
    owner: str,
    retry: RetrySettings,
    now: float,
) -> Delivery:
    """Put a delivery that went wrong where it belongs: PENDING again, or REFUSED.

    As :func:`settle_fault` does with jobs: a destination may be away for as long as it likes.

    Raises:
        LeaseLost: The delivery is no longer this owner's.
    """
    fault = _Fault.of(error, delivery, retry)
    if fault.passing:
        settled = postpone(
            ledger,
            delivery.id,
            owner=owner,
            reason=fault.reason,
            next_at=now + fault.delay_seconds,
            counted=fault.counted,
            now=now,
        )
    else:
        settled = refuse(ledger, delivery.id, owner=owner, reason=fault.reason, now=now)
    log.warning(
        "delivery stopped",
        destination=delivery.destination,
        state=settled.state,
        attempt=delivery.attempts + delivery.waits,
        reason=settled.reason,
    )
    return settled


@dataclass(frozen=True)
class _Fault:
    """What happened, without words that may quote a header, and what follows from it."""

    reason: str
    passing: bool
    counted: bool
    delay_seconds: float

    @classmethod
    def of(cls, error: Exception, work: Job | Delivery, retry: RetrySettings) -> Self:
        delay = retry.delay_seconds(work.attempts + work.waits)
        device = isinstance(error, DeviceFault)  # which may be the work's own doing
        known = isinstance(error, NodeError) and not device
        if isinstance(error, NodeError) and known and not (error.transient and error.counted):
            return cls(str(error), error.transient, False, delay)
        reason = str(error) if known or device else f"unexpected {error_location(error)}"
        if isinstance(error, MemoryError):
            reason = "the machine has not enough free memory for it"
        if work.attempts < retry.attempts:
            return cls(reason, True, True, delay)
        end = "." if reason.endswith(".") else ""
        reason = f"{reason.removesuffix('.')} (after {work.attempts} attempts){end}"
        return cls(reason, False, True, delay)


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

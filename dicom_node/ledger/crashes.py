"""Release the work of processes that ended: queue it again, or park it where it was the cause."""

from __future__ import annotations

from collections.abc import Callable

from dicom_node.ledger.claim import LEASE_SECONDS
from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.history import move_delivery, move_job
from dicom_node.ledger.model import Job, job_of
from dicom_node.ledger.rollup import roll_up
from dicom_node.ledger.states import DeliveryState, JobState
from dicom_node.ledger.tables import JobRow

_DIED = "its process stopped in the middle of the work"
_EXPIRED = (
    "its lease ran out: its process died, or could not reach the ledger for"
    f" {LEASE_SECONDS:.0f} seconds"
)
_KILLED = "its process died of it ({cause})"
_PARKED = (
    "Parked: it has ended its process {deaths} times ({cause}); other work goes on. Keep the series"
    " and report it; `dicom-node jobs retry {id}` tries it again."
)

MAX_DEATHS = 2
"""Processes that a job may kill before it is parked until an operator retries it."""


@repeated
def release_job(
    ledger: Ledger,
    job_id: int,
    is_dead: Callable[[str], bool],
    crash: Callable[[str], str],
    *,
    now: float,
    attempts: int,
) -> Job:
    """Release a job, and those of its deliveries that are lost, from the processes that held them.

    Args:
        ledger: The ledger.
        job_id: The job.
        is_dead: Returns whether an owner's process is known to have ended.
        crash: Returns the cause of an owner's end if its own work was it; empty for any other end.
        now: Seconds since 1970.
        attempts: Claims that a job or delivery gets.
    """
    with ledger.write() as session:
        row = session.get_one(JobRow, job_id, with_for_update=True)
        if row.owner is not None and is_lost(row.owner, row.lease_until, is_dead, now=now):
            row.next_at = now
            reason = _note_death(row, crash(row.owner)) or _end_of(row.owner, is_dead)
            spent = row.attempts >= attempts or row.deaths >= MAX_DEATHS
            after = JobState.FAILED if spent else JobState.QUEUED
            move_job(session, row, after, now=now, reason=reason)
        for delivery in row.deliveries:
            owner = delivery.owner
            if owner is not None and is_lost(owner, delivery.lease_until, is_dead, now=now):
                spent = delivery.attempts >= attempts
                left = DeliveryState.REFUSED if spent else DeliveryState.PENDING
                delivery.next_at = now
                reason = _end_of(owner, is_dead)
                move_delivery(session, delivery, left, now=now, reason=reason)
        roll_up(session, row, now=now)
        return job_of(row)


def is_lost(
    owner: str, lease_until: float | None, is_dead: Callable[[str], bool], *, now: float
) -> bool:
    """Return whether an owner has lost its work: its lease ran out, or its process ended."""
    return (lease_until or 0.0) < now or is_dead(owner)


def _end_of(owner: str, is_dead: Callable[[str], bool]) -> str:
    """Return the reason to take work back; of another machine's process no end is known."""
    return _DIED if is_dead(owner) else _EXPIRED


def _note_death(row: JobRow, cause: str) -> str:
    """Count the process's end if the work was its cause, and return the reason; else empty."""
    if not cause:
        return ""
    row.deaths += 1
    if row.deaths < MAX_DEATHS:
        return _KILLED.format(cause=cause)
    return _PARKED.format(deaths=row.deaths, cause=cause, id=row.id)

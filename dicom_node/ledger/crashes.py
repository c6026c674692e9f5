"""Release the work of processes that ended: queue it again, or park it where it was the cause."""

from __future__ import annotations

from collections.abc import Callable

from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.history import move_delivery, move_job
from dicom_node.ledger.model import Job, job_of
from dicom_node.ledger.rollup import roll_up
from dicom_node.ledger.states import DeliveryState, JobState
from dicom_node.ledger.tables import JobRow

_DIED = "its process stopped in the middle of the work"
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
    is_lost: Callable[[str | None, float | None], bool],
    crash: Callable[[str], str],
    *,
    now: float,
    attempts: int,
) -> Job:
    """Release a job, and those of its deliveries that are lost, from the processes that held them.

    Args:
        ledger: The ledger.
        job_id: The job.
        is_lost: Returns from an owner and the end of its lease whether the work is lost.
        crash: Returns the cause of an owner's end if its own work was it; empty for any other end.
        now: Seconds since 1970.
        attempts: Claims that a job or delivery gets.
    """
    with ledger.write() as session:
        row = session.get_one(JobRow, job_id, with_for_update=True)
        if is_lost(row.owner, row.lease_until):
            row.next_at = now
            reason = _note_death(row, crash(row.owner or ""))
            spent = row.attempts >= attempts or row.deaths >= MAX_DEATHS
            after = JobState.FAILED if spent else JobState.QUEUED
            move_job(session, row, after, now=now, reason=reason)
        for delivery in row.deliveries:
            if is_lost(delivery.owner, delivery.lease_until):
                spent = delivery.attempts >= attempts
                left = DeliveryState.REFUSED if spent else DeliveryState.PENDING
                delivery.next_at = now
                move_delivery(session, delivery, left, now=now, reason=_DIED)
        roll_up(session, row, now=now)
        return job_of(row)


def _note_death(row: JobRow, cause: str) -> str:
    """Count the process's end if the work was its cause; return the reason for the job."""
    if not cause:
        return _DIED
    row.deaths += 1
    if row.deaths < MAX_DEATHS:
        return _KILLED.format(cause=cause)
    return _PARKED.format(deaths=row.deaths, cause=cause, id=row.id)

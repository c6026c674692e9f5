"""Roll up deliveries into the state of their job, once its results are durable."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.ledger.history import move_job
from dicom_node.ledger.states import DeliveryState, JobState
from dicom_node.ledger.tables import DeliveryRow, JobRow

_UNDER_WAY = (DeliveryState.SENDING, DeliveryState.COMMITTING)


def state_of(deliveries: list[DeliveryRow]) -> JobState:
    """Return the state of a job with these deliveries."""
    if all(row.state == DeliveryState.CONFIRMED for row in deliveries):
        return JobState.DONE
    if any(row.state in _UNDER_WAY for row in deliveries):
        return JobState.SENDING
    pending = [row for row in deliveries if row.state == DeliveryState.PENDING]
    if any(row.attempts == 0 and row.waits == 0 for row in pending):
        return JobState.DERIVED
    return JobState.RETRY_WAIT if pending else JobState.FAILED


def roll_up(session: Session, job: JobRow, *, now: float, owner: str = "") -> None:
    """Bring a job into the state of its deliveries, in the transaction that moved one of them.

    A cancelled job stays cancelled, and one without results does not depend on deliveries.

    Args:
        session: The transaction.
        job: The job, locked.
        now: Seconds since 1970.
        owner: Process that moved the delivery; empty for an operator, housekeeping or a peer.
    """
    if job.derived_at is None or job.state == JobState.CANCELLED:
        return
    after = state_of(job.deliveries)
    reason = _reason(job.deliveries, after)
    if after != job.state:
        move_job(session, job, after, now=now, reason=reason, owner=owner)
    job.reason = reason
    waiting = [row.next_at for row in job.deliveries if row.state == DeliveryState.PENDING]
    job.next_at = min(waiting, default=now)


def lock_delivery(session: Session, delivery_id: int) -> DeliveryRow | None:
    """Return a delivery whose job is locked, and with it all of the job's transitions."""
    job = session.scalar(
        select(JobRow)
        .join(DeliveryRow, DeliveryRow.job_id == JobRow.id)
        .where(DeliveryRow.id == delivery_id)
        .with_for_update(of=JobRow)
    )
    return next((row for row in job.deliveries if row.id == delivery_id), None) if job else None


def _reason(deliveries: list[DeliveryRow], after: JobState) -> str:
    """Return why a job waits or failed: the reason of the first such delivery."""
    decisive = {
        JobState.RETRY_WAIT: DeliveryState.PENDING,
        JobState.FAILED: DeliveryState.REFUSED,
    }.get(after)
    return next((row.reason for row in deliveries if row.state == decisive and row.reason), "")

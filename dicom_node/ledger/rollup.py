"""The state of a job whose results are durable: it follows from the states of its deliveries."""

from __future__ import annotations

from sqlalchemy.orm import Session

from dicom_node.ledger.history import move_job
from dicom_node.ledger.states import DeliveryState, JobState
from dicom_node.ledger.tables import DeliveryRow, JobRow

_UNDER_WAY = (DeliveryState.SENDING, DeliveryState.COMMITTING)


def state_of(deliveries: list[DeliveryRow]) -> JobState:
    """The state in which these deliveries leave their job."""
    if all(row.state == DeliveryState.CONFIRMED for row in deliveries):
        return JobState.DONE
    if any(row.state in _UNDER_WAY for row in deliveries):
        return JobState.SENDING
    pending = [row for row in deliveries if row.state == DeliveryState.PENDING]
    if any(row.attempts == 0 and row.waits == 0 for row in pending):
        return JobState.DERIVED
    return JobState.RETRY_WAIT if pending else JobState.FAILED


def roll_up(session: Session, job: JobRow, *, now: float, owner: str = "") -> None:
    """Bring a job where its deliveries leave it; in the transaction that moved one of them.

    A cancelled job stays cancelled, and one without results is not the deliveries' business.

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


def _reason(deliveries: list[DeliveryRow], after: JobState) -> str:
    """What a job waits for or failed by: the first delivery that says it."""
    telling = {
        JobState.RETRY_WAIT: DeliveryState.PENDING,
        JobState.FAILED: DeliveryState.REFUSED,
    }.get(after)
    return next((row.reason for row in deliveries if row.state == telling and row.reason), "")

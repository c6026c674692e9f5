"""History of every transition: rows are added, never changed or deleted."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.states import (
    DELIVERY_TRANSITIONS,
    SERIES_TRANSITIONS,
    TRANSITIONS,
    DeliveryState,
    JobState,
    SeriesState,
    check_transition,
)
from dicom_node.ledger.tables import DeliveryRow, HistoryRow, JobRow, SeriesRow


@dataclass(frozen=True)
class Event:
    """One transition.

    Attributes:
        at: Seconds since 1970.
        destination: Destination of the delivery; empty for the job itself.
        before: State left; empty for the first.
        after: State entered.
        owner: Process that worked; empty where none did.
        reason: Reason in words; empty where the state says enough.
    """

    at: float
    destination: str
    before: str
    after: str
    owner: str
    reason: str


def of_job(ledger: Ledger, job_id: int) -> list[Event]:
    """Return all transitions of one job and of its deliveries, oldest first."""
    chosen = select(HistoryRow).where(HistoryRow.job_id == job_id).order_by(HistoryRow.id)
    with ledger.read() as session:
        return [
            Event(row.at, row.destination, row.before, row.after, row.owner, row.reason)
            for row in session.scalars(chosen)
        ]


def note(
    session: Session,
    row: SeriesRow | JobRow | DeliveryRow,
    before: str,
    reason: str,
    now: float,
    *,
    owner: str | None = None,
) -> None:
    """Add one transition of a row that already has its new state.

    ``owner`` is by default whoever holds the row.
    """
    delivery = row if isinstance(row, DeliveryRow) else None
    job = delivery.job if delivery else row if isinstance(row, JobRow) else None
    holder = None if isinstance(row, SeriesRow) else row.owner
    session.add(
        HistoryRow(
            at=now,
            series_id=job.series_id if job else row.id,
            job_id=job.id if job else None,
            destination=delivery.destination if delivery else "",
            before=before,
            after=row.state,
            owner=(holder if owner is None else owner) or "",
            reason=reason,
        )
    )


def move_series(
    session: Session, row: SeriesRow, after: SeriesState, *, now: float, reason: str = ""
) -> None:
    """Bring a series into its next state; raises ``WrongState`` where the table has none such."""
    before = SeriesState(row.state)
    check_transition(SERIES_TRANSITIONS, before, after, "The series")
    row.state, row.reason = after, reason
    note(session, row, before, reason, now)


def move_job(
    session: Session,
    row: JobRow,
    after: JobState,
    *,
    now: float,
    reason: str = "",
    owner: str | None = None,
) -> None:
    """Bring a job into its next state; raises ``WrongState`` where the table has none such.

    The lease ends with every transition but the claim, which sets it by itself. A job that fails
    again after a retry is notified again.
    """
    before = JobState(row.state)
    check_transition(TRANSITIONS, before, after, f"Job {row.id}")
    row.state, row.reason, row.updated_at, row.notified_at = after, reason, now, None
    note(session, row, before, reason, now, owner=owner)
    row.owner = row.lease_until = None


def move_delivery(
    session: Session, row: DeliveryRow, after: DeliveryState, *, now: float, reason: str = ""
) -> None:
    """Bring a delivery into its next state; raises ``WrongState`` where the table has none such.

    The lease ends with every transition but the claim, which sets it by itself.
    """
    before = DeliveryState(row.state)
    what = f"The delivery of job {row.job_id} to {row.destination}"
    check_transition(DELIVERY_TRANSITIONS, before, after, what)
    row.state, row.reason, row.updated_at = after, reason, now
    note(session, row, before, reason, now)
    row.owner = row.lease_until = None

"""The history of every transition: rows are added, never changed or deleted."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.states import (
    SERIES_TRANSITIONS,
    TRANSITIONS,
    JobState,
    SeriesState,
    check_transition,
)
from dicom_node.ledger.tables import HistoryRow, JobRow, SeriesRow


@dataclass(frozen=True)
class Event:
    """One transition.

    Attributes:
        at: Seconds since 1970.
        before: State left; empty for the first.
        after: State entered.
        owner: Process that worked on the job, empty where none did.
        reason: Why, in one sentence; empty where the state says it.
    """

    at: float
    before: str
    after: str
    owner: str
    reason: str


def of_job(ledger: Ledger, job_id: int) -> list[Event]:
    """All transitions of one job, oldest first."""
    chosen = select(HistoryRow).where(HistoryRow.job_id == job_id).order_by(HistoryRow.id)
    with ledger.read() as session:
        return [
            Event(row.at, row.before, row.after, row.owner, row.reason)
            for row in session.scalars(chosen)
        ]


def note(session: Session, row: SeriesRow | JobRow, before: str, reason: str, now: float) -> None:
    """Add one transition of a row that already has its new state."""
    job = row if isinstance(row, JobRow) else None
    session.add(
        HistoryRow(
            at=now,
            series_id=job.series_id if job else row.id,
            job_id=job.id if job else None,
            before=before,
            after=row.state,
            owner=(job.owner or "") if job else "",
            reason=reason,
        )
    )


def move_series(
    session: Session, row: SeriesRow, after: SeriesState, *, now: float, reason: str = ""
) -> None:
    """Bring a series into its next state; raises ``WrongState`` where none of the table's."""
    before = SeriesState(row.state)
    check_transition(SERIES_TRANSITIONS, before, after, "the series")
    row.state, row.reason = after, reason
    note(session, row, before, reason, now)


def move_job(
    session: Session, row: JobRow, after: JobState, *, now: float, reason: str = ""
) -> None:
    """Bring a job into its next state; raises ``WrongState`` where none of the table's.

    The lease ends with every transition but the claims, which set it afterwards.
    """
    before = JobState(row.state)
    check_transition(TRANSITIONS, before, after, f"job {row.id}")
    row.state, row.reason, row.updated_at = after, reason, now
    note(session, row, before, reason, now)
    row.owner = row.lease_until = None

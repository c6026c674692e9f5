"""Reset times that a wrong clock wrote in the future, and follow a clock that was set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Update, case, func, select, text, update
from sqlalchemy.orm import InstrumentedAttribute

from dicom_node.ledger.claim import LEASE_SECONDS
from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.series import CLOCK_SLACK_SECONDS
from dicom_node.ledger.states import CLOSED, DeliveryState, JobState, SeriesState
from dicom_node.ledger.tables import (
    CommitmentRequestRow,
    CommitmentRow,
    DeliveryRow,
    HistoryRow,
    JobRow,
    PauseRow,
    SeriesRow,
)

MAX_WRITE_DELAY_SECONDS = 1.0
"""Longest time between reading the clock for a moment and writing it."""


@dataclass(frozen=True)
class ClockStep:
    """A step of the wall clock, set forward or back.

    Attributes:
        by_seconds: Its size; negative when the clock was set back.
        within_seconds: Longest time since it happened.
        now: Seconds since 1970, after the step.
    """

    by_seconds: float
    within_seconds: float
    now: float

    def moved(self, moment: Moment) -> ColumnElement[Any]:
        """Return a past moment by the new time; one that was written after the step stays."""
        return case((self._is_new(moment), moment), else_=moment + self.by_seconds)

    def planned(self, moment: Moment, written: Moment) -> ColumnElement[Any]:
        """Return a planned moment by the new time; ``written`` tells when it was planned."""
        return case((self._is_new(written), moment), else_=moment + self.by_seconds)

    def _is_new(self, moment: Moment) -> ColumnElement[bool]:
        begin = self.now - self.within_seconds - MAX_WRITE_DELAY_SECONDS
        return moment.between(begin, self.now + MAX_WRITE_DELAY_SECONDS)


Moment = InstrumentedAttribute[float] | InstrumentedAttribute[float | None]


@repeated
def follow_clock(ledger: Ledger, step: ClockStep) -> None:
    """Shift every open time in the ledger to the new time of a clock that was set.

    What has waited a minute has waited a minute still: no series completes early, no retry waits
    longer, and whoever holds a lease has a whole one from now on. History and finished work keep
    the moments of then.
    """
    statements = (*_of_work(step), *_of_peers(step), *_of_leases(step))
    with ledger.write() as session:
        for statement in statements:
            session.execute(statement.execution_options(synchronize_session=False))


def _of_work(step: ClockStep) -> Iterator[Update]:
    """Series, jobs and pauses."""
    moved = step.moved
    arriving = SeriesRow.state.in_((SeriesState.ARRIVING, SeriesState.COMPLETE))
    ended = {*CLOSED, JobState.FAILED}
    yield (
        update(SeriesRow)
        .where(arriving)
        .values(
            began_at=moved(SeriesRow.began_at), last_arrival_at=moved(SeriesRow.last_arrival_at)
        )
    )
    yield (
        update(JobRow)
        .where(JobRow.state.not_in(ended))
        .values(
            created_at=moved(JobRow.created_at),
            derived_at=moved(JobRow.derived_at),
            next_at=step.planned(JobRow.next_at, JobRow.updated_at),
            updated_at=moved(JobRow.updated_at),
        )
    )
    yield update(PauseRow).values(since=moved(PauseRow.since))


def _of_peers(step: ClockStep) -> Iterator[Update]:
    """Deliveries, and storage commitment in both directions."""
    moved, requests = step.moved, CommitmentRequestRow
    ended = (DeliveryState.CONFIRMED, DeliveryState.REFUSED)
    yield (
        update(DeliveryRow)
        .where(DeliveryRow.state.not_in(ended))
        .values(
            next_at=step.planned(DeliveryRow.next_at, DeliveryRow.updated_at),
            updated_at=moved(DeliveryRow.updated_at),
        )
    )
    yield (
        update(CommitmentRow)
        .where(CommitmentRow.answered_at.is_(None))
        .values(requested_at=moved(CommitmentRow.requested_at))
    )
    yield (
        update(requests)
        .where(requests.reported_at.is_(None))
        .values(
            received_at=moved(requests.received_at),
            next_at=step.planned(requests.next_at, requests.received_at),
        )
    )


def _of_leases(step: ClockStep) -> Iterator[Update]:
    """Give every owner a whole lease."""
    until = step.now + LEASE_SECONDS
    for table in (JobRow, DeliveryRow, CommitmentRequestRow):
        yield update(table).where(table.owner.is_not(None)).values(lease_until=until)


@repeated
def correct_clock(ledger: Ledger, *, max_plan_seconds: float, now: float) -> int:
    """Reset plans and leases that a clock which was since set back wrote in the future.

    A machine that starts with a wrong clock plans in the future. Once the clock is right, a pause
    that ends later than any may is over, and a lease that is longer than any ends as one that was
    taken just now.

    Args:
        ledger: The ledger.
        max_plan_seconds: Longest time ahead that anything is planned.
        now: Seconds since 1970.

    Returns:
        Number of plans and leases that were reset.
    """
    latest = now + max_plan_seconds + CLOCK_SLACK_SECONDS
    lease = now + LEASE_SECONDS
    corrected = 0
    with ledger.write() as session:
        for table in (JobRow, DeliveryRow, CommitmentRequestRow):
            early = update(table).where(table.next_at > latest).values(next_at=now)
            long = update(table).where(table.lease_until > lease + CLOCK_SLACK_SECONDS)
            for statement in (early, long.values(lease_until=lease)):
                returning = statement.returning(table.id)
                corrected += len(session.scalars(returning).all())
    return corrected


def newest_moment(ledger: Ledger) -> float | None:
    """Return the time of the newest transition by the clock of then; None in an empty ledger."""
    with ledger.read() as session:
        return session.scalar(select(func.max(HistoryRow.at)))


def seconds_ahead_of_server(ledger: Ledger, *, clock: Callable[[], float]) -> float | None:
    """Return the lead of a clock over the database server's; None where there is no server."""
    if ledger.engine.dialect.name != "postgresql":
        return None
    with ledger.read() as session:
        before = clock()
        server = session.scalar(text("SELECT extract(epoch FROM clock_timestamp())"))
        return (before + clock()) / 2 - float(server or 0.0)

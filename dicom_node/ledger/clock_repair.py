"""Clocks that were wrong: moments that they left in the ledger are brought to the right time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Update, case, func, select, text, update
from sqlalchemy.orm import InstrumentedAttribute

from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.jobs import LEASE_SECONDS
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

READING_SECONDS = 1.0
"""A moment may have been read so long before it was written."""


@dataclass(frozen=True)
class ClockStep:
    """A step of the wall clock, set forward or back.

    Attributes:
        by_seconds: How far; negative when it was set back.
        within_seconds: How long ago it happened, at most.
        now: Seconds since 1970, after the step.
    """

    by_seconds: float
    within_seconds: float
    now: float

    def moved(self, moment: Moment) -> ColumnElement[Any]:
        """A past moment by the new time; one that was written after the step stays."""
        return case((self._is_new(moment), moment), else_=moment + self.by_seconds)

    def planned(self, moment: Moment, written: Moment) -> ColumnElement[Any]:
        """The same for a moment ahead, by when its row was written."""
        return case((self._is_new(written), moment), else_=moment + self.by_seconds)

    def _is_new(self, moment: Moment) -> ColumnElement[bool]:
        begin = self.now - self.within_seconds - READING_SECONDS
        return moment.between(begin, self.now + READING_SECONDS)


Moment = InstrumentedAttribute[float] | InstrumentedAttribute[float | None]


@repeated
def follow_clock(ledger: Ledger, step: ClockStep) -> None:
    """Bring every open moment in the ledger to the new time of a clock that was set.

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
    """Whoever holds one has a whole one."""
    until = step.now + LEASE_SECONDS
    for table in (JobRow, DeliveryRow, CommitmentRequestRow):
        yield update(table).where(table.owner.is_not(None)).values(lease_until=until)


@repeated
def correct_clock(ledger: Ledger, *, longest_plan_seconds: float, now: float) -> int:
    """Bring plans back that were made by a clock since set back: nobody waits for them for years.

    A machine that starts with a wrong clock plans in the future. Once the clock is right, a pause
    that ends later than any may is over, and a lease that is longer than any ends as one that was
    taken just now.

    Args:
        ledger: The ledger.
        longest_plan_seconds: As far ahead as anything may be planned.
        now: Seconds since 1970.

    Returns:
        How many plans were brought back.
    """
    latest = now + longest_plan_seconds + CLOCK_SLACK_SECONDS
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
    """When the newest transition happened by the clock of then; None in an empty ledger."""
    with ledger.read() as session:
        return session.scalar(select(func.max(HistoryRow.at)))


def seconds_ahead_of_server(ledger: Ledger, *, clock: Callable[[], float]) -> float | None:
    """By how much a clock is ahead of the database server's; None where there is no server."""
    if ledger.engine.dialect.name != "postgresql":
        return None
    with ledger.read() as session:
        before = clock()
        server = session.scalar(text("SELECT extract(epoch FROM clock_timestamp())"))
        return (before + clock()) / 2 - float(server or 0.0)

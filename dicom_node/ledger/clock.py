"""Clocks that were wrong: moments in the ledger that lie further ahead than any plan reaches."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import func, select, text, update

from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.jobs import LEASE_SECONDS
from dicom_node.ledger.tables import CommitmentRequestRow, DeliveryRow, HistoryRow, JobRow

CLOCK_SLACK_SECONDS = 60.0
"""Hosts that share a ledger may differ by so much."""


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

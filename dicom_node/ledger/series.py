"""Series in the ledger: quiet time, completion, skipping. Images are recorded in ``arrivals``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.history import move_series
from dicom_node.ledger.states import SeriesState
from dicom_node.ledger.tables import InstanceRow, SeriesRow

CLOCK_SLACK_SECONDS = 60.0
"""Tolerated difference between the clocks of hosts that share a ledger. A time further in the
future was written before the clock was set back."""


@dataclass(frozen=True)
class Series:
    """A series as the ledger knows it; ``names`` are its files relative to the inbox.

    Attributes:
        began_at: First arrival of this generation, seconds since 1970.
        gap: Missing slices; empty where none is known to be.
        rule: Name of the rule that decided about it; empty for the default or none yet.
        purged: Whether retention has deleted images of it, which ``names`` lacks.
        deaths: Processes that its inspection has killed.
    """

    id: int
    series_uid: str
    study_uid: str
    state: SeriesState
    generation: int
    source_ae: str
    reason: str
    gap: str
    rule: str
    began_at: float
    last_arrival_at: float
    names: tuple[str, ...]
    purged: bool
    deaths: int = 0


def quiet_series(
    ledger: Ledger, *, quiet_seconds: float, at_most_seconds: float, now: float
) -> list[Series]:
    """Return the ARRIVING series that were quiet for so long, or are older than the maximum."""
    ahead = now + CLOCK_SLACK_SECONDS
    waiting = select(SeriesRow).where(
        SeriesRow.state == SeriesState.ARRIVING,
        or_(
            SeriesRow.last_arrival_at <= now - quiet_seconds,
            SeriesRow.began_at <= now - at_most_seconds,
            SeriesRow.last_arrival_at > ahead,
        ),
    )
    with ledger.read() as session:
        rows = session.scalars(waiting.order_by(SeriesRow.id)).all()
        early = [row for row in rows if row.last_arrival_at > ahead]
        quiet = [_series(row) for row in rows if row not in early]
    if early:
        _clock_was_set_back(ledger, [row.id for row in early], now)
    return quiet


@repeated
def complete(ledger: Ledger, series: Series, *, gap: str, forced: bool, now: float) -> bool:
    """Mark an ARRIVING series COMPLETE.

    Args:
        ledger: The ledger.
        series: As :func:`quiet_series` returned it.
        gap: Missing slices; empty where none is known to be.
        forced: Also when images have come since ``series`` was read.
        now: Seconds since 1970.

    Returns:
        False when the series is not ARRIVING any more, or has got images since.
    """
    with ledger.write() as session:
        row = session.get(SeriesRow, series.id, with_for_update=True)
        if row is None or row.state != SeriesState.ARRIVING:
            return False
        if not forced and _series(row) != series:
            return False
        row.gap = gap
        move_series(session, row, SeriesState.COMPLETE, now=now)
        return True


def undecided(ledger: Ledger) -> list[Series]:
    """Return the COMPLETE series, oldest arrival first: a rule has yet to decide about them."""
    return list_series(ledger, states=[SeriesState.COMPLETE], limit=None)[::-1]


@repeated
def skip(ledger: Ledger, series: Series, *, reason: str, rule: str = "", now: float) -> bool:
    """Mark a COMPLETE series SKIPPED; return False when a late slice has reopened it."""
    with ledger.write() as session:
        row = awaiting_decision(session, series)
        if row is None:
            return False
        move_series(session, row, SeriesState.SKIPPED, now=now, reason=reason)
        row.rule = rule
        return True


@repeated
def note_death(ledger: Ledger, series_id: int) -> None:
    """Count a process that the inspection of a series has killed."""
    counted = update(SeriesRow).where(SeriesRow.id == series_id)
    with ledger.write() as session:
        session.execute(counted.values(deaths=SeriesRow.deaths + 1))


def awaiting_decision(session: Session, series: Series) -> SeriesRow | None:
    """Return the row of a series, locked, if it is still COMPLETE in that generation."""
    row = session.get(SeriesRow, series.id, with_for_update=True)
    if row is None or row.state != SeriesState.COMPLETE or row.generation != series.generation:
        return None
    return row


def list_series(
    ledger: Ledger, *, states: Collection[SeriesState] = (), limit: int | None = 50
) -> list[Series]:
    """Return the series in the given states (any when empty), newest arrival first."""
    chosen = select(SeriesRow).order_by(SeriesRow.last_arrival_at.desc()).limit(limit)
    if states:
        chosen = chosen.where(SeriesRow.state.in_(states))
    with ledger.read() as session:
        return [_series(row) for row in session.scalars(chosen)]


def count_series(ledger: Ledger) -> dict[SeriesState, int]:
    """Return the number of series by state; states without any are absent."""
    counted = select(SeriesRow.state, func.count()).group_by(SeriesRow.state)
    with ledger.read() as session:
        return {SeriesState(state): count for state, count in session.execute(counted)}


@repeated
def _clock_was_set_back(ledger: Ledger, series_ids: Sequence[int], now: float) -> None:
    """Start the quiet time now for series that arrived "in the future"."""
    late = update(SeriesRow).where(
        SeriesRow.id.in_(series_ids), SeriesRow.last_arrival_at > now + CLOCK_SLACK_SECONDS
    )
    with ledger.write() as session:
        session.execute(late.values(last_arrival_at=now, began_at=now))


def _series(row: SeriesRow) -> Series:
    present: Sequence[InstanceRow] = [item for item in row.instances if not item.purged]
    return Series(
        id=row.id,
        series_uid=row.series_uid,
        study_uid=row.study_uid,
        state=SeriesState(row.state),
        generation=row.generation,
        source_ae=row.source_ae,
        reason=row.reason,
        gap=row.gap,
        rule=row.rule,
        began_at=row.began_at,
        last_arrival_at=row.last_arrival_at,
        names=tuple(item.name for item in present),
        purged=len(present) < len(row.instances),
        deaths=row.deaths,
    )

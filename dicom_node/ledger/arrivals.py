"""Record arrived images: many at once, each compared with the images that are known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite
from sqlalchemy.orm import Session

from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.fast_path import insert_arriving
from dicom_node.ledger.history import move_series, note
from dicom_node.ledger.series import CLOCK_SLACK_SECONDS
from dicom_node.ledger.states import SeriesState
from dicom_node.ledger.tables import InstanceRow, SeriesRow

MAX_NAMES_PER_QUERY = 500


class Recorded(StrEnum):
    """Relation of an arrived image to the ledger."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    GONE = "gone"
    OTHER_STUDY = "other study"


@dataclass(frozen=True)
class Arrival:
    """An image whose file is durable in the inbox.

    Attributes:
        sha256: Of the data set as received, without file meta information.
        name: File name relative to the inbox.
        size: Bytes of the file.
        source_ae: AE title of the sender.
    """

    series_uid: str
    study_uid: str
    sop_uid: str
    sha256: str
    name: str
    size: int
    source_ae: str


@repeated
def record_instances(
    ledger: Ledger,
    arrivals: Sequence[Arrival],
    *,
    now: float,
    exists: Callable[[Arrival], bool],
) -> list[Recorded]:
    """Record images whose files are durable: new ones of arriving series first, then all others.

    Only after this may a sender be answered with success. A new image of a series that had been
    complete reopens the series as its next generation. The same bytes again change nothing (but
    bring back a file that retention had deleted).

    Args:
        ledger: The ledger.
        arrivals: The images, in the order of their arrival.
        now: Seconds since 1970.
        exists: Returns whether the file is still in the inbox; called under the series' lock,
            because retention may have removed the folder since the file was written.

    Returns:
        For each NEW, DUPLICATE (the same bytes were here), CONFLICT (other bytes are known under
        this SOP Instance UID: the ledger keeps the first, the caller quarantines this file),
        GONE (the file is missing, nothing was recorded: the sender should try again) or OTHER_STUDY
        (the series is known in another study, nothing was recorded: the caller refuses the image).

    Raises:
        StorageError: The database cannot be used. Images that were recorded all the same are
            duplicates when they come again.
    """
    with ledger.transaction() as connection:
        entered = insert_arriving(connection, arrivals, now=now, exists=exists)
    others = [arrival for at, arrival in enumerate(arrivals) if at not in entered]
    rest = iter(_enter_others(ledger, others, now, exists) if others else ())
    return [Recorded.NEW if at in entered else next(rest) for at in range(len(arrivals))]


@repeated
def _enter_others(
    ledger: Ledger, arrivals: Sequence[Arrival], now: float, exists: Callable[[Arrival], bool]
) -> list[Recorded]:
    """Lock the series of images, compare each with the known ones and record the new."""
    with ledger.write() as session:
        series = _lock_series(session, {arrival.series_uid for arrival in arrivals})
        present = [exists(arrival) for arrival in arrivals]
        there = [arrival for arrival, here in zip(arrivals, present, strict=True) if here]
        series |= _add_series(session, [a for a in there if a.series_uid not in series], now)
        entry = _Entry(session, series, there, now)
        results = [
            entry.record(arrival) if here else Recorded.GONE
            for arrival, here in zip(arrivals, present, strict=True)
        ]
        entry.finish()
        return results


def entered_names(ledger: Ledger, names: Sequence[str]) -> set[str]:
    """Return those of these inbox files that belong to an image which the ledger relies on."""
    with ledger.read() as session:
        return names_entered(session, names)


def names_entered(session: Session, names: Sequence[str]) -> set[str]:
    """Return the same within a transaction."""
    found: set[str] = set()
    for begin in range(0, len(names), MAX_NAMES_PER_QUERY):
        asked = names[begin : begin + MAX_NAMES_PER_QUERY]
        chosen = select(InstanceRow.name).where(
            InstanceRow.name.in_(asked), InstanceRow.purged.is_(False)
        )
        found.update(session.scalars(chosen))
    return found


class _Entry:
    """Compares arrivals with the ledger; the series are locked."""

    def __init__(
        self,
        session: Session,
        series: dict[str, SeriesRow],
        arrivals: Sequence[Arrival],
        now: float,
    ) -> None:
        self._session, self._series, self._now = session, series, now
        self._known = _known(session, [row.id for row in series.values()], arrivals)
        self._fresh: list[dict[str, Any]] = []

    def record(self, arrival: Arrival) -> Recorded:
        series = self._series[arrival.series_uid]
        known = self._known.get((series.id, arrival.sop_uid))
        if known is None or known.sha256 != arrival.sha256:
            if arrival.study_uid != series.study_uid:
                return Recorded.OTHER_STUDY
            if known is not None:
                return Recorded.CONFLICT
        _restart_quiet_time(series, self._now)
        if known is None:
            self._add(series, arrival)
            return Recorded.NEW
        if known.id is not None and (known.purged or known.name != arrival.name):
            back = update(InstanceRow).where(InstanceRow.id == known.id)
            self._session.execute(back.values(name=arrival.name, purged=False))
        return Recorded.DUPLICATE

    def finish(self) -> None:
        """Write the new images, all at once."""
        if self._fresh:
            self._session.execute(insert(InstanceRow), self._fresh)

    def _add(self, series: SeriesRow, arrival: Arrival) -> None:
        if series.state != SeriesState.ARRIVING:
            series.generation += 1
            series.deaths = min(series.deaths, 1)  # one more try is given to what killed a process
            series.began_at, series.gap = self._now, ""
            reason = f"an image came late: generation {series.generation}"
            move_series(self._session, series, SeriesState.ARRIVING, now=self._now, reason=reason)
        self._known[series.id, arrival.sop_uid] = _Known(None, arrival.sha256, arrival.name, False)
        self._fresh.append(
            {
                "series_id": series.id,
                "sop_uid": arrival.sop_uid,
                "sha256": arrival.sha256,
                "name": arrival.name,
                "size": arrival.size,
                "generation": series.generation,
                "received_at": self._now,
            }
        )


@dataclass(frozen=True)
class _Known:
    """An image as the ledger knows it; without ``id`` when it came in the same transaction."""

    id: int | None
    sha256: str
    name: str
    purged: bool


def _known(
    session: Session, series_ids: Collection[int], arrivals: Sequence[Arrival]
) -> dict[tuple[int, str], _Known]:
    chosen = select(
        InstanceRow.series_id,
        InstanceRow.sop_uid,
        InstanceRow.id,
        InstanceRow.sha256,
        InstanceRow.name,
        InstanceRow.purged,
    ).where(
        InstanceRow.series_id.in_(series_ids),
        InstanceRow.sop_uid.in_({arrival.sop_uid for arrival in arrivals}),
    )
    return {
        (series_id, sop_uid): _Known(id_, sha256, name, purged)
        for series_id, sop_uid, id_, sha256, name, purged in session.execute(chosen)
    }


def _restart_quiet_time(series: SeriesRow, now: float) -> None:
    """Restart the quiet time; a moment far ahead was written before the clock was set back."""
    ahead = series.last_arrival_at > now + CLOCK_SLACK_SECONDS
    series.last_arrival_at = now if ahead else max(series.last_arrival_at, now)


def _lock_series(session: Session, uids: Collection[str]) -> dict[str, SeriesRow]:
    """Return the known series of these UIDs, locked in one order to avoid deadlocks."""
    chosen = select(SeriesRow).where(SeriesRow.series_uid.in_(uids)).order_by(SeriesRow.series_uid)
    return {row.series_uid: row for row in session.scalars(chosen.with_for_update())}


def _add_series(session: Session, arrivals: Sequence[Arrival], now: float) -> dict[str, SeriesRow]:
    """Insert the series of these arrivals, unless another receiver just did, and lock them."""
    first = {arrival.series_uid: arrival for arrival in reversed(arrivals)}
    if not first:
        return {}
    insert_into = insert_postgresql if _is_postgresql(session) else insert_sqlite
    values = [
        {
            "series_uid": uid,
            "study_uid": first[uid].study_uid,
            "source_ae": first[uid].source_ae,
            "first_arrival_at": now,
            "began_at": now,
            "last_arrival_at": now,
        }
        for uid in sorted(first)
    ]
    make = insert_into(SeriesRow).values(values).on_conflict_do_nothing()
    made = set(session.scalars(make.returning(SeriesRow.series_uid)))
    rows = _lock_series(session, first)
    for uid in made:
        note(session, rows[uid], "", "", now)
    return rows


def _is_postgresql(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"

"""Series and their images in the ledger: arrival, completion, skipping, purging."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.errors import StorageError
from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.history import move_series, note
from dicom_node.ledger.states import CLOSED, SeriesState
from dicom_node.ledger.tables import InstanceRow, JobRow, SeriesRow


class Recorded(StrEnum):
    """What an arrived image was to the ledger."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


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


@dataclass(frozen=True)
class Series:
    """A series as the ledger knows it; ``names`` are its files relative to the inbox."""

    id: int
    series_uid: str
    study_uid: str
    state: SeriesState
    generation: int
    source_ae: str
    reason: str
    last_arrival_at: float
    names: tuple[str, ...]


def record_instance(
    ledger: Ledger, arrival: Arrival, *, now: float, exists: Callable[[], bool]
) -> Recorded:
    """Enter an image whose file is durable. Only after this may the sender hear "success".

    An image that is new to a series which had been complete reopens it as the next generation.
    The same bytes again change nothing (but bring back a file that retention had deleted).

    Args:
        ledger: The ledger.
        arrival: The image.
        now: Seconds since 1970.
        exists: Is the file still in the inbox? Asked under the write lock, because retention may
            have removed the folder since the file was written.

    Returns:
        NEW, DUPLICATE (the same bytes were here) or CONFLICT (other bytes are known under this
        SOP Instance UID: the ledger keeps the first, the caller quarantines this file).

    Raises:
        StorageError: The file or the database is not there; the sender should try again.
    """
    with ledger.write() as session:
        if not exists():
            raise StorageError("an image left the inbox before it was entered; send it again.")
        series = _series_of(session, arrival, now)
        known = session.scalar(
            select(InstanceRow).where(
                InstanceRow.series_id == series.id, InstanceRow.sop_uid == arrival.sop_uid
            )
        )
        if known is not None and known.sha256 != arrival.sha256:
            return Recorded.CONFLICT
        series.last_arrival_at = max(series.last_arrival_at, now)
        if known is not None:
            known.name, known.purged = arrival.name, False
            return Recorded.DUPLICATE
        _add_instance(session, series, arrival, now)
        return Recorded.NEW


def complete_quiet_series(ledger: Ledger, *, quiet_seconds: float, now: float) -> list[Series]:
    """Mark every series COMPLETE that got no image for so long; return all that await a decision.

    A series left COMPLETE by a process that died before deciding is returned again.
    """
    quiet = select(SeriesRow).where(
        SeriesRow.state == SeriesState.ARRIVING, SeriesRow.last_arrival_at <= now - quiet_seconds
    )
    with ledger.write() as session:
        for row in session.scalars(quiet.with_for_update()):
            move_series(session, row, SeriesState.COMPLETE, now=now)
        session.flush()
        waiting = select(SeriesRow).where(SeriesRow.state == SeriesState.COMPLETE)
        return [_series(row) for row in session.scalars(waiting.order_by(SeriesRow.id))]


def skip(ledger: Ledger, series: Series, *, reason: str, now: float) -> bool:
    """Mark a COMPLETE series SKIPPED; False when a late slice has reopened it meanwhile."""
    with ledger.write() as session:
        row = awaiting_decision(session, series)
        if row is None:
            return False
        move_series(session, row, SeriesState.SKIPPED, now=now, reason=reason)
        return True


def awaiting_decision(session: Session, series: Series) -> SeriesRow | None:
    """The row of a series if it is still COMPLETE in that generation, locked."""
    row = session.get(SeriesRow, series.id, with_for_update=True)
    if row is None or row.state != SeriesState.COMPLETE or row.generation != series.generation:
        return None
    return row


def list_series(
    ledger: Ledger, *, states: Collection[SeriesState] = (), limit: int = 50
) -> list[Series]:
    """The series in the given states (any when empty), newest arrival first."""
    chosen = select(SeriesRow).order_by(SeriesRow.last_arrival_at.desc()).limit(limit)
    if states:
        chosen = chosen.where(SeriesRow.state.in_(states))
    with ledger.read() as session:
        return [_series(row) for row in session.scalars(chosen)]


def count_series(ledger: Ledger) -> dict[SeriesState, int]:
    """How many series stand in each state; states without one are absent."""
    counted = select(SeriesRow.state, func.count()).group_by(SeriesRow.state)
    with ledger.read() as session:
        return {SeriesState(state): count for state, count in session.execute(counted)}


def purge_old_series(
    ledger: Ledger, *, before: float, now: float, remove: Callable[[str], None]
) -> list[str]:
    """Forget the files of series that nobody waits for any more.

    A series goes when its last image came before ``before`` and all of its jobs are DONE or
    CANCELLED, or it was skipped. One with unsent or failed work stays.

    Args:
        ledger: The ledger.
        before: Seconds since 1970.
        now: Seconds since 1970.
        remove: Takes a series UID and removes its files from the inbox; called under the write
            lock, so that no image can be entered whose file is just being removed.

    Returns:
        UIDs of the purged series.
    """
    owed = select(JobRow.id).where(JobRow.series_id == SeriesRow.id, JobRow.state.not_in(CLOSED))
    present = select(InstanceRow.id).where(
        InstanceRow.series_id == SeriesRow.id, InstanceRow.purged.is_(False)
    )
    old = select(SeriesRow).where(
        SeriesRow.state.in_((SeriesState.ENQUEUED, SeriesState.SKIPPED, SeriesState.PURGED)),
        SeriesRow.last_arrival_at < before,
        present.exists(),
        ~owed.exists(),
    )
    with ledger.write() as session:
        rows = session.scalars(old.with_for_update()).all()
        for row in rows:
            if row.state != SeriesState.PURGED:  # PURGED with files: sent again since
                move_series(session, row, SeriesState.PURGED, now=now, reason=row.reason)
            for instance in row.instances:
                instance.purged = True
            remove(row.series_uid)
        return [row.series_uid for row in rows]


def _series_of(session: Session, arrival: Arrival, now: float) -> SeriesRow:
    found = session.scalar(
        select(SeriesRow).where(SeriesRow.series_uid == arrival.series_uid).with_for_update()
    )
    if found is not None:
        return found
    row = SeriesRow(
        series_uid=arrival.series_uid,
        study_uid=arrival.study_uid,
        state=SeriesState.ARRIVING,
        generation=1,
        source_ae=arrival.source_ae,
        first_arrival_at=now,
        last_arrival_at=now,
    )
    session.add(row)
    session.flush()
    note(session, row, "", "", now)
    return row


def _add_instance(session: Session, series: SeriesRow, arrival: Arrival, now: float) -> None:
    if series.state != SeriesState.ARRIVING:
        series.generation += 1
        reason = f"an image came late: generation {series.generation}"
        move_series(session, series, SeriesState.ARRIVING, now=now, reason=reason)
    session.add(
        InstanceRow(
            series_id=series.id,
            sop_uid=arrival.sop_uid,
            sha256=arrival.sha256,
            name=arrival.name,
            size=arrival.size,
            generation=series.generation,
            received_at=now,
        )
    )


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
        last_arrival_at=row.last_arrival_at,
        names=tuple(item.name for item in present),
    )

"""Insert new images of a series that is still arriving, in two statements.

All images of a series but its first are such. Every other case is left to
:mod:`dicom_node.ledger.arrivals`, which loads objects at several times the cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from sqlalchemy import BindParameter, Connection, Insert, bindparam, case, update
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from dicom_node.ledger.series import CLOCK_SLACK_SECONDS
from dicom_node.ledger.states import SeriesState
from dicom_node.ledger.tables import InstanceRow, SeriesRow

_NOW: BindParameter[float] = bindparam("now")

_TOUCH_SERIES = (
    update(SeriesRow)
    .where(SeriesRow.series_uid == bindparam("uid"), SeriesRow.state == SeriesState.ARRIVING)
    .values(
        # A moment far ahead was written before the clock was set back.
        last_arrival_at=case(
            (
                SeriesRow.last_arrival_at.between(_NOW, _NOW + CLOCK_SLACK_SECONDS),
                SeriesRow.last_arrival_at,
            ),
            else_=_NOW,
        )
    )
    .returning(SeriesRow.id, SeriesRow.generation, SeriesRow.study_uid)
)
"""Locks a series if it is arriving, and notes the time of its newest image."""


class Arrived(Protocol):
    """The values of an image that its row keeps."""

    @property
    def series_uid(self) -> str:
        """Series Instance UID."""

    @property
    def study_uid(self) -> str:
        """Study Instance UID."""

    @property
    def sop_uid(self) -> str:
        """SOP Instance UID."""

    @property
    def sha256(self) -> str:
        """Of the data set."""

    @property
    def name(self) -> str:
        """File name relative to the inbox."""

    @property
    def size(self) -> int:
        """Bytes of the file."""


class _ArrivingSeries(NamedTuple):
    """A series that is arriving."""

    id: int
    generation: int
    study_uid: str


_Arrived = TypeVar("_Arrived", bound=Arrived)


def insert_arriving(
    connection: Connection,
    arrivals: Sequence[_Arrived],
    *,
    now: float,
    exists: Callable[[_Arrived], bool],
) -> set[int]:
    """Insert the images that are new in a series which is arriving.

    Args:
        connection: In a transaction that writes.
        arrivals: The images, in the order of their arrival.
        now: Seconds since 1970.
        exists: Returns whether the file is still in the inbox; called while the series is locked.

    Returns:
        The indices of those inserted; about the others nothing is known.
    """
    postgresql = connection.dialect.name == "postgresql"
    insert = _INSERT_POSTGRESQL if postgresql else _INSERT_SQLITE
    series = {
        uid: _touch_series(connection, uid, now)
        for uid in sorted({item.series_uid for item in arrivals})
    }
    entered = set()
    for place, arrival in enumerate(arrivals):
        row = series[arrival.series_uid]
        if row is None or row.study_uid != arrival.study_uid or not exists(arrival):
            continue
        if _insert(connection, insert, arrival, row, now):
            entered.add(place)
    return entered


def _touch_series(connection: Connection, uid: str, now: float) -> _ArrivingSeries | None:
    row = connection.execute(_TOUCH_SERIES, {"uid": uid, "now": now}).one_or_none()
    return None if row is None else _ArrivingSeries(*row)


def _insert(
    connection: Connection, insert: Insert, arrival: Arrived, series: _ArrivingSeries, now: float
) -> bool:
    values = {
        "series_id": series.id,
        "sop_uid": arrival.sop_uid,
        "sha256": arrival.sha256,
        "name": arrival.name,
        "size": arrival.size,
        "generation": series.generation,
        "purged": False,
        "received_at": now,
    }
    done = connection.execute(insert, values)
    return done.first() is not None if done.returns_rows else done.rowcount == 1


_INSERT_SQLITE = insert_sqlite(InstanceRow).on_conflict_do_nothing()
_INSERT_POSTGRESQL = (
    insert_postgresql(InstanceRow).on_conflict_do_nothing().returning(InstanceRow.id)
)

"""Purge old series: remove the images that no job needs any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import ColumnElement, and_, select

from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.history import move_series
from dicom_node.ledger.states import CLOSED, SeriesState
from dicom_node.ledger.tables import InstanceRow, JobRow, SeriesRow

Remove = Callable[[Sequence[str]], None]


def purge_old_series(
    ledger: Ledger,
    *,
    before: float,
    now: float,
    remove: Remove,
    limit: int | None = None,
) -> list[str]:
    """Purge the series that no job needs any more, oldest first.

    A series is purged when its last image came before ``before`` and all of its jobs are DONE or
    CANCELLED, or it was skipped. One with unsent or failed work stays. Each is purged in a
    transaction of its own, so that receiving is never blocked for long.

    Args:
        ledger: The ledger.
        before: Seconds since 1970.
        now: Seconds since 1970.
        remove: Removes images by name from the inbox; called under the series'
            lock, so that no image can be entered whose file is just being removed. A file that the
            ledger does not know stays, whatever series it is of.
        limit: Largest number of series; None: all.

    Returns:
        UIDs of the purged series.
    """
    old = select(SeriesRow.id).where(_purgeable(before))
    with ledger.read() as session:
        ids = session.scalars(old.order_by(SeriesRow.last_arrival_at).limit(limit)).all()
    purged = (_purge(ledger, id_, before=before, now=now, remove=remove) for id_ in ids)
    return [uid for uid in purged if uid is not None]


@repeated
def _purge(
    ledger: Ledger, series_id: int, *, before: float, now: float, remove: Remove
) -> str | None:
    """Purge one series if that is still allowed now that it is locked."""
    allowed = select(SeriesRow.id).where(SeriesRow.id == series_id, _purgeable(before))
    with ledger.write() as session:
        row = session.get_one(SeriesRow, series_id, with_for_update=True)
        if session.scalar(allowed) is None:
            return None
        if row.state != SeriesState.PURGED:  # PURGED with files: sent again since
            move_series(session, row, SeriesState.PURGED, now=now, reason=row.reason)
        present = [instance for instance in row.instances if not instance.purged]
        for instance in present:
            instance.purged = True
        remove([instance.name for instance in present])
        return row.series_uid


def _purgeable(before: float) -> ColumnElement[bool]:
    owed = select(JobRow.id).where(JobRow.series_id == SeriesRow.id, JobRow.state.not_in(CLOSED))
    present = select(InstanceRow.id).where(
        InstanceRow.series_id == SeriesRow.id, InstanceRow.purged.is_(False)
    )
    return and_(
        SeriesRow.state.in_((SeriesState.ENQUEUED, SeriesState.SKIPPED, SeriesState.PURGED)),
        SeriesRow.last_arrival_at < before,
        present.exists(),
        ~owed.exists(),
    )

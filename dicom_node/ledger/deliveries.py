"""What each destination of a job has confirmed, image by image."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.jobs import LeaseLost
from dicom_node.ledger.states import DeliveryState
from dicom_node.ledger.tables import DeliveryRow, JobRow, SentRow


def confirmed_names(ledger: Ledger, delivery_id: int) -> set[str]:
    """File names of the images that this destination has confirmed."""
    with ledger.read() as session:
        chosen = select(SentRow.name).where(SentRow.delivery_id == delivery_id)
        return set(session.scalars(chosen))


def confirm(
    ledger: Ledger, delivery_id: int, *, owner: str, statuses: Mapping[str, int], now: float
) -> bool:
    """Note images (file name to DIMSE status) that a destination has confirmed.

    Returns:
        True when the destination now has every derived image of the job.

    Raises:
        LeaseLost: The job is no longer this owner's.
    """
    with ledger.write() as session:
        row = _owned(session, delivery_id, owner)
        known = {sent.name for sent in row.sent}
        row.sent.extend(
            SentRow(name=name, status=status, at=now)
            for name, status in statuses.items()
            if name not in known
        )
        expected = session.scalar(select(JobRow.derived_count).where(JobRow.id == row.job_id))
        complete = len(row.sent) == expected
        if complete:
            row.state, row.reason, row.confirmed_at = DeliveryState.CONFIRMED, "", now
        return complete


def note_fault(ledger: Ledger, delivery_id: int, *, owner: str, reason: str, lasting: bool) -> None:
    """Note why a destination does not have everything; a lasting fault parks the destination.

    Raises:
        LeaseLost: The job is no longer this owner's.
    """
    with ledger.write() as session:
        row = _owned(session, delivery_id, owner)
        row.reason = reason
        row.state = DeliveryState.REFUSED if lasting else DeliveryState.PENDING


def _owned(session: Session, delivery_id: int, owner: str) -> DeliveryRow:
    job = session.scalar(
        select(JobRow)
        .join(DeliveryRow, DeliveryRow.job_id == JobRow.id)
        .where(DeliveryRow.id == delivery_id)
        .with_for_update()
    )
    if job is None or job.owner != owner:
        raise LeaseLost("the job being sent no longer belongs to this process.")
    return next(row for row in job.deliveries if row.id == delivery_id)

"""Pending deliveries: the destinations that they are for, and those that an operator retries."""

from __future__ import annotations

from sqlalchemy import select

from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.operations import AT_ONCE
from dicom_node.ledger.states import SENDABLE, DeliveryState
from dicom_node.ledger.tables import DeliveryRow, JobRow


def waiting_destinations(ledger: Ledger) -> list[str]:
    """Return the names of the destinations with pending deliveries."""
    owed = (
        select(DeliveryRow.destination)
        .join(JobRow, JobRow.id == DeliveryRow.job_id)
        .where(DeliveryRow.state == DeliveryState.PENDING, JobRow.state.in_(SENDABLE))
        .distinct()
        .order_by(DeliveryRow.destination)
    )
    with ledger.read() as session:
        return list(session.scalars(owed))


def wants_at_once(ledger: Ledger, destination: str) -> bool:
    """Return whether an operator's retry asks for a destination now, even if it was just away."""
    asked = (
        select(DeliveryRow.id)
        .join(JobRow, JobRow.id == DeliveryRow.job_id)
        .where(
            DeliveryRow.destination == destination,
            DeliveryRow.state == DeliveryState.PENDING,
            DeliveryRow.next_at == AT_ONCE,
            JobRow.state.in_(SENDABLE),
            JobRow.derived_at.is_not(None),
        )
        .limit(1)
    )
    with ledger.read() as session:
        return session.scalar(asked) is not None

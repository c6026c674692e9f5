"""Jobs as plain values, free of any session."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.ledger.states import DeliveryState, JobState
from dicom_node.ledger.tables import DeliveryRow, JobRow


@dataclass(frozen=True)
class Delivery:
    """The way of a job's results to one destination; ``confirmed`` images have arrived."""

    id: int
    destination: str
    state: DeliveryState
    confirmed: int
    reason: str


@dataclass(frozen=True)
class Job:
    """A job at one moment.

    Attributes:
        token: Name of its folder in the outbox, never used twice.
        generation: Of the series; later ones contain late slices.
        attempts: Claims of the present stage, this one included.
        next_at: Not before this moment, seconds since 1970.
        reason: Why it waits, failed or was cancelled; empty otherwise.
        derived_count: Derived images; 0 until they are durable.
        owner: Process that works on it, None when nobody does.
    """

    id: int
    token: str
    series_uid: str
    study_uid: str
    generation: int
    state: JobState
    model: str
    strength: float
    attempts: int
    next_at: float
    reason: str
    derived_count: int
    deliveries: tuple[Delivery, ...]
    owner: str | None
    created_at: float
    updated_at: float


def job_of(row: JobRow) -> Job:
    """The value of a row; its session must still be open."""
    return Job(
        id=row.id,
        token=row.token,
        series_uid=row.series.series_uid,
        study_uid=row.series.study_uid,
        generation=row.generation,
        state=JobState(row.state),
        model=row.model,
        strength=row.strength,
        attempts=row.attempts,
        next_at=row.next_at,
        reason=row.reason,
        derived_count=row.derived_count,
        deliveries=tuple(_delivery(delivery) for delivery in row.deliveries),
        owner=row.owner,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _delivery(row: DeliveryRow) -> Delivery:
    return Delivery(
        id=row.id,
        destination=row.destination,
        state=DeliveryState(row.state),
        confirmed=len(row.sent),
        reason=row.reason,
    )

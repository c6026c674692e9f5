"""Jobs and deliveries as plain values, independent of any session."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import object_session

from dicom_node.ledger.states import DeliveryState, JobState
from dicom_node.ledger.tables import DeliveryRow, JobRow, SentRow
from dicom_node.work_order import AUTO, DoseGain, Priority


@dataclass(frozen=True)
class Delivery:
    """A delivery of a job's results to one destination, at one moment.

    Attributes:
        token: Name of the job's folder in the outbox.
        derived_count: Derived images of the job.
        attempts: Claims, this one included, but for those that ended in a wait.
        waits: Pauses for faults that are not the images', such as a destination that is away.
        confirmed: Images that the destination has stored.
        reason: Why it waits or was refused; empty otherwise.
        next_at: Time of the next attempt; while COMMITTING, the deadline of the report.
        owner: Process that sends it, None when nobody does.
    """

    id: int
    job_id: int
    token: str
    destination: str
    series_uid: str
    study_uid: str
    derived_count: int
    attempts: int
    waits: int
    state: DeliveryState
    confirmed: int
    reason: str
    next_at: float
    owner: str | None


@dataclass(frozen=True)
class Job:
    """A job at one moment.

    Attributes:
        token: Name of its folder in the outbox, never used twice.
        generation: Of the series; later ones contain late slices.
        since_generation: Images up to this generation are the work of an earlier job.
        dose_gain: As ordered; ``AUTO``: it follows from the noise reference; None: the default of
            the model's card, unless a noise is wanted.
        target_noise_hu: Noise wanted in soft tissue, HU; None: none is.
        measured_gain: Dose gain that follows from the series; None until it is known.
        gain_basis: How it follows; empty until it is known.
        priority: Place in the queue.
        rule: Name of the rule that ordered it; empty for the default.
        gap: Missing slices; empty where none is known to be.
        attempts: Claims for denoising, this one included, but for those that ended in a wait.
        waits: Pauses for faults that are not the job's, such as a full disk.
        next_at: Time of the next attempt, seconds since 1970.
        reason: Why it waits, failed or was cancelled; empty otherwise.
        derived_count: Derived images; 0 until they are durable.
        owner: Process that denoises it, None when nobody does.
    """

    id: int
    token: str
    series_uid: str
    study_uid: str
    generation: int
    since_generation: int
    state: JobState
    model: str
    strength: float
    dose_gain: DoseGain
    target_noise_hu: float | None
    measured_gain: float | None
    gain_basis: str
    priority: Priority
    rule: str
    gap: str
    attempts: int
    waits: int
    next_at: float
    reason: str
    derived_count: int
    deliveries: tuple[Delivery, ...]
    owner: str | None
    created_at: float
    updated_at: float

    @property
    def measures(self) -> bool:
        """Whether the dose gain follows from the noise of the series."""
        return self.target_noise_hu is not None or self.dose_gain == AUTO


def job_of(row: JobRow) -> Job:
    """Return the value of a row; its session must still be open."""
    return Job(
        id=row.id,
        token=row.token,
        series_uid=row.series.series_uid,
        study_uid=row.series.study_uid,
        generation=row.generation,
        since_generation=row.since_generation,
        state=JobState(row.state),
        model=row.model,
        strength=row.strength,
        dose_gain=AUTO if row.auto_gain else row.dose_gain,
        target_noise_hu=row.target_noise_hu,
        measured_gain=row.measured_gain,
        gain_basis=row.gain_basis,
        priority=Priority(row.priority),
        rule=row.rule,
        gap=row.gap,
        attempts=row.attempts,
        waits=row.waits,
        next_at=row.next_at,
        reason=row.reason,
        derived_count=row.derived_count,
        deliveries=tuple(delivery_of(delivery) for delivery in row.deliveries),
        owner=row.owner,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def delivery_of(row: DeliveryRow) -> Delivery:
    """Return the value of a row; its session must still be open."""
    return Delivery(
        id=row.id,
        job_id=row.job_id,
        token=row.job.token,
        destination=row.destination,
        series_uid=row.job.series.series_uid,
        study_uid=row.job.series.study_uid,
        derived_count=row.job.derived_count,
        attempts=row.attempts,
        waits=row.waits,
        state=DeliveryState(row.state),
        confirmed=stored_count(row),
        reason=row.reason,
        next_at=row.next_at,
        owner=row.owner,
    )


def stored_count(row: DeliveryRow) -> int:
    """Return the number of images that the destination has stored, in the row's open session."""
    session = object_session(row)
    counted = select(func.count()).where(SentRow.delivery_id == row.id)
    return (session.scalar(counted) or 0) if session else 0

"""Earlier jobs of a series: the tokens of their results and reports, and the images they cover."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.model import Job
from dicom_node.ledger.series import Series
from dicom_node.ledger.states import JobState
from dicom_node.ledger.tables import InstanceRow, JobRow, SeriesRow
from dicom_node.work_order import AUTO, MeasuredGain, WorkOrder, fixed_gain


def covered(session: Session, series_id: int, generation: int, order: WorkOrder) -> int:
    """Return the generation up to which earlier jobs make the same results; 0 for none.

    Each covers the images from its ``since_generation`` on; one that failed leaves a hole, and what
    comes after it is not covered.
    """
    earlier = select(JobRow).where(
        JobRow.series_id == series_id,
        JobRow.generation < generation,
        *_same_work(order),
        JobRow.state.not_in((JobState.FAILED, JobState.CANCELLED)),
    )
    wanted, up_to = set(order.destinations), 0
    for row in session.scalars(earlier.order_by(JobRow.generation)):
        same = {delivery.destination for delivery in row.deliveries} == wanted
        if same and row.since_generation <= up_to:
            up_to = row.generation
    return up_to


def uncovered_names(ledger: Ledger, series: Series, order: WorkOrder) -> list[str]:
    """Return the inbox names of the images of which no earlier job makes the same results."""
    with ledger.read() as session:
        since = covered(session, series.id, series.generation, order)
        chosen = select(InstanceRow.name).where(
            InstanceRow.series_id == series.id,
            InstanceRow.generation > since,
            InstanceRow.purged.is_(False),
        )
        return list(session.scalars(chosen.order_by(InstanceRow.sop_uid)))


def earlier_tokens(ledger: Ledger, job: Job) -> list[str]:
    """Return the tokens of the jobs whose results this job's results join."""
    joined = _derived_before(job).where(
        JobRow.generation <= job.since_generation,
        *_same_work(job),
    )
    with ledger.read() as session:
        return list(session.scalars(joined))


def former_tokens(ledger: Ledger, job: Job) -> list[str]:
    """Return the tokens of all jobs that have results of the series, whatever their settings."""
    with ledger.read() as session:
        return list(session.scalars(_derived_before(job)))


def first_gain(ledger: Ledger, job: Job) -> MeasuredGain | None:
    """Return the dose gain that the images of the job's series get; None: it is not known yet."""
    with ledger.read() as session:
        return kept_gain(session, job)


def kept_gain(session: Session, job: Job) -> MeasuredGain | None:
    """See :func:`first_gain`."""
    kept = (
        select(JobRow.measured_gain, JobRow.gain_basis)
        .join(SeriesRow, SeriesRow.id == JobRow.series_id)
        .where(
            SeriesRow.series_uid == job.series_uid,
            JobRow.measured_gain.is_not(None),
            *_same_work(job),
        )
    )
    row = session.execute(kept.order_by(JobRow.id).limit(1)).one_or_none()
    return None if row is None else MeasuredGain(float(row.measured_gain), row.gain_basis)


def _same_work(work: WorkOrder | Job) -> tuple[ColumnElement[bool], ...]:
    """Conditions for jobs that make the same of an image."""
    return (
        JobRow.model == work.model,
        JobRow.strength == work.strength,
        JobRow.dose_gain == fixed_gain(work.dose_gain),
        JobRow.auto_gain.is_(work.dose_gain == AUTO),
        JobRow.target_noise_hu == work.target_noise_hu,
    )


def _derived_before(job: Job) -> Select[str]:
    return (
        select(JobRow.token)
        .join(SeriesRow, SeriesRow.id == JobRow.series_id)
        .where(
            SeriesRow.series_uid == job.series_uid,
            JobRow.id != job.id,
            JobRow.derived_at.is_not(None),
        )
        .order_by(JobRow.id)
    )

"""Earlier jobs of a job's series, by the tokens under which their results and reports are kept."""

from __future__ import annotations

from sqlalchemy import Select, select

from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.model import Job
from dicom_node.ledger.tables import JobRow, SeriesRow


def earlier_tokens(ledger: Ledger, job: Job) -> list[str]:
    """Tokens of the jobs whose results this job's results join."""
    joined = _derived_before(job).where(
        JobRow.generation <= job.since_generation,
        JobRow.model == job.model,
        JobRow.strength == job.strength,
    )
    with ledger.read() as session:
        return list(session.scalars(joined))


def former_tokens(ledger: Ledger, job: Job) -> list[str]:
    """Tokens of all jobs that have derived anything of the series, whatever their settings."""
    with ledger.read() as session:
        return list(session.scalars(_derived_before(job)))


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

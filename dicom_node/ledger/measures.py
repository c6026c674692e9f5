"""Waiting times: since when the oldest work waits in each stage."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.states import CLOSED, DeliveryState, JobState, SeriesState
from dicom_node.ledger.tables import (
    CommitmentRequestRow,
    CommitmentRow,
    DeliveryRow,
    JobRow,
    SeriesRow,
)
from dicom_node.work_order import Priority


@dataclass(frozen=True)
class Refused:
    """Results that one destination has refused, of jobs that another destination keeps open.

    Attributes:
        jobs: Number of jobs.
        first: Number of the oldest of them.
    """

    jobs: int
    first: int


@dataclass(frozen=True)
class Waiting:
    """Times since when the oldest work waits, seconds since 1970; None where nothing waits.

    Attributes:
        arriving: The oldest series that is not complete.
        denoise: The oldest job without results, among those not failed.
        off_peak: The same for jobs that wait for the off-peak hours.
        send: By destination, the oldest results that it has not received.
        commit: By destination, its oldest unanswered request for storage commitment.
        reports: By AE title, the oldest report on storage commitment that this node owes.
        refused: By destination, the results that it refused while their job has not ended.
    """

    arriving: float | None = None
    denoise: float | None = None
    off_peak: float | None = None
    send: dict[str, float] = field(default_factory=dict)
    commit: dict[str, float] = field(default_factory=dict)
    reports: dict[str, float] = field(default_factory=dict)
    refused: dict[str, Refused] = field(default_factory=dict)


def waiting(ledger: Ledger) -> Waiting:
    """Return since when the oldest work waits in each stage."""
    ended = {*CLOSED, JobState.FAILED}
    open_series = SeriesRow.state.in_((SeriesState.ARRIVING, SeriesState.COMPLETE))
    undone = JobRow.derived_at.is_(None) & JobRow.state.not_in(ended)
    over = (DeliveryState.CONFIRMED, DeliveryState.REFUSED)
    unsent = DeliveryRow.state.not_in((*over, DeliveryState.COMMITTING))
    by_destination = (
        select(DeliveryRow.destination, func.min(JobRow.derived_at).label("since"))
        .join(JobRow, JobRow.id == DeliveryRow.job_id)
        .where(unsent, JobRow.derived_at.is_not(None), JobRow.state.not_in(ended))
        .group_by(DeliveryRow.destination)
    )
    uncommitted = (
        select(DeliveryRow.destination, func.min(CommitmentRow.requested_at).label("since"))
        .join(CommitmentRow, CommitmentRow.delivery_id == DeliveryRow.id)
        .join(JobRow, JobRow.id == DeliveryRow.job_id)
        .where(DeliveryRow.state.not_in(over), JobRow.state.not_in(ended))
        .group_by(DeliveryRow.destination)
    )
    requests = CommitmentRequestRow
    owed = (
        select(requests.requester, func.min(requests.received_at).label("since"))
        .where(requests.reported_at.is_(None))
        .group_by(requests.requester)
    )
    by_night = JobRow.priority >= Priority.OFF_PEAK
    oldest_job = select(func.min(JobRow.created_at)).where(undone)
    with ledger.read() as session:
        return Waiting(
            arriving=session.scalar(select(func.min(SeriesRow.began_at)).where(open_series)),
            denoise=session.scalar(oldest_job.where(~by_night)),
            off_peak=session.scalar(oldest_job.where(by_night)),
            send={row.destination: row.since for row in session.execute(by_destination)},
            commit={row.destination: row.since for row in session.execute(uncommitted)},
            reports={row.requester: row.since for row in session.execute(owed)},
            refused=_refused(session),
        )


def _refused(session: Session) -> dict[str, Refused]:
    """Return the refused results by destination, of jobs that are neither failed nor closed."""
    jobs, first = func.count(JobRow.id), func.min(JobRow.id)
    rows = session.execute(
        select(DeliveryRow.destination, jobs, first)
        .join(JobRow, JobRow.id == DeliveryRow.job_id)
        .where(
            DeliveryRow.state == DeliveryState.REFUSED,
            JobRow.state.not_in({*CLOSED, JobState.FAILED}),
        )
        .group_by(DeliveryRow.destination)
        .order_by(DeliveryRow.destination)
    )
    return {destination: Refused(count, oldest) for destination, count, oldest in rows}

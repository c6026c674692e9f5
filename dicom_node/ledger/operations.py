"""What operators and housekeeping do with jobs that they do not own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import func, select

from dicom_node.errors import InputError
from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.history import move_job
from dicom_node.ledger.jobs import RUNNING, ready_state
from dicom_node.ledger.model import Job, job_of
from dicom_node.ledger.series import count_series
from dicom_node.ledger.states import (
    CLOSED,
    DeliveryState,
    JobState,
    SeriesState,
    WrongState,
)
from dicom_node.ledger.tables import JobRow


@dataclass(frozen=True)
class LedgerStatus:
    """The queue at a glance.

    Attributes:
        series: How many series stand in each state; states without one are absent.
        jobs: The same for jobs.
        oldest_open_at: When the oldest job was made that is neither DONE, CANCELLED nor FAILED.
    """

    series: dict[SeriesState, int]
    jobs: dict[JobState, int]
    oldest_open_at: float | None


def status(ledger: Ledger) -> LedgerStatus:
    """Count series and jobs by state."""
    counted = select(JobRow.state, func.count()).group_by(JobRow.state)
    unfinished = JobRow.state.not_in({*CLOSED, JobState.FAILED})
    with ledger.read() as session:
        jobs = {JobState(state): count for state, count in session.execute(counted)}
        oldest = session.scalar(select(func.min(JobRow.created_at)).where(unfinished))
    return LedgerStatus(series=count_series(ledger), jobs=jobs, oldest_open_at=oldest)


def list_jobs(ledger: Ledger, *, states: Collection[JobState] = (), limit: int = 50) -> list[Job]:
    """The jobs in the given states (any when empty), newest first."""
    chosen = select(JobRow).order_by(JobRow.id.desc()).limit(limit)
    if states:
        chosen = chosen.where(JobRow.state.in_(states))
    with ledger.read() as session:
        return [job_of(row) for row in session.scalars(chosen)]


def get_job(ledger: Ledger, job_id: int) -> Job:
    """One job.

    Raises:
        InputError: There is no job of this number.
    """
    with ledger.read() as session:
        row = session.get(JobRow, job_id)
        if row is None:
            raise InputError(f"there is no job {job_id}; `dicom-node jobs list` shows them all.")
        return job_of(row)


def retry(ledger: Ledger, job_id: int, *, now: float) -> Job:
    """Begin again at once, at the stage that is missing; refused destinations are tried again.

    Raises:
        InputError: There is no such job.
        WrongState: The job is not waiting, failed or cancelled, or its results are gone.
    """
    get_job(ledger, job_id)
    with ledger.write() as session:
        row = session.get_one(JobRow, job_id, with_for_update=True)
        if row.state in (*RUNNING.values(), JobState.DERIVED, JobState.QUEUED):
            raise WrongState(f"job {job_id} is {row.state}: it is under way already.")
        if all(image.purged for image in row.series.instances):
            raise WrongState(f"job {job_id} cannot be retried: its images were purged by age.")
        row.attempts, row.next_at = 0, now
        move_job(session, row, ready_state(row), now=now, reason="retried by an operator")
        for delivery in row.deliveries:
            if delivery.state == DeliveryState.REFUSED:
                delivery.state = DeliveryState.PENDING
        return job_of(row)


def cancel(ledger: Ledger, job_id: int, *, now: float) -> Job:
    """Stop a job for good; a process that works on it notices at its next heartbeat.

    Raises:
        InputError: There is no such job.
        WrongState: The job is DONE or cancelled already.
    """
    get_job(ledger, job_id)
    with ledger.write() as session:
        row = session.get_one(JobRow, job_id, with_for_update=True)
        move_job(session, row, JobState.CANCELLED, now=now, reason="cancelled by an operator")
        return job_of(row)


def release_lost_leases(
    ledger: Ledger,
    *,
    now: float,
    attempts: int,
    is_dead: Callable[[str], bool] = lambda owner: False,
) -> list[Job]:
    """Return the jobs of processes that died: to QUEUED, or to DERIVED once files are durable.

    A job that has killed its process ``attempts`` times is FAILED instead of tried for ever.

    Args:
        ledger: The ledger.
        now: Seconds since 1970; leases that end before are lost.
        attempts: How many claims of one stage a job gets.
        is_dead: Tells of an owner that its process is known to be gone: no need to wait.
    """
    held = select(JobRow).where(JobRow.owner.is_not(None)).with_for_update(skip_locked=True)
    released = []
    with ledger.write() as session:
        for row in session.scalars(held):
            if (row.lease_until or 0.0) >= now and not is_dead(row.owner or ""):
                continue
            spent = row.attempts >= attempts
            after = JobState.FAILED if spent else ready_state(row)
            reason = "its process stopped in the middle of the work"
            move_job(session, row, after, now=now, reason=reason)
            released.append(job_of(row))
    return released


def wake_waiting(ledger: Ledger, *, now: float) -> list[Job]:
    """Return every RETRY_WAIT job whose time has come to QUEUED or DERIVED."""
    due = select(JobRow).where(JobRow.state == JobState.RETRY_WAIT, JobRow.next_at <= now)
    with ledger.write() as session:
        rows = session.scalars(due.with_for_update(skip_locked=True)).all()
        for row in rows:
            move_job(session, row, ready_state(row), now=now, reason=row.reason)
        return [job_of(row) for row in rows]


def closed_tokens(ledger: Ledger, *, before: float) -> set[str]:
    """Outbox folders of jobs that were DONE or CANCELLED before a moment."""
    chosen = select(JobRow.token).where(JobRow.state.in_(CLOSED), JobRow.updated_at < before)
    with ledger.read() as session:
        return set(session.scalars(chosen))


def busy_tokens(ledger: Ledger) -> set[str]:
    """Outbox folders of the jobs that somebody works on."""
    with ledger.read() as session:
        return set(session.scalars(select(JobRow.token).where(JobRow.owner.is_not(None))))

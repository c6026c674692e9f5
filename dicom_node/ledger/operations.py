"""Operations on jobs and deliveries without a claim: by operators and housekeeping."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from dicom_node.errors import InputError
from dicom_node.ledger.crashes import is_lost, release_job
from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.history import move_delivery, move_job
from dicom_node.ledger.model import Job, job_of
from dicom_node.ledger.pauses import Pause, list_pauses
from dicom_node.ledger.rollup import roll_up, state_of
from dicom_node.ledger.series import CLOCK_SLACK_SECONDS, count_series
from dicom_node.ledger.states import (
    CLOSED,
    DeliveryState,
    JobState,
    SeriesState,
    WrongState,
)
from dicom_node.ledger.tables import DeliveryRow, JobRow, SeriesRow

_UNDER_WAY = (JobState.QUEUED, JobState.DENOISING)
_SENT = (JobState.DERIVED, JobState.SENDING)

AT_ONCE = 0.0
"""Due time of a delivery that an operator retries: before all others, and even if its destination
was just away."""

_RETRIED = "retried by an operator"


def _unknown_end(_owner: str) -> str:
    return ""


@dataclass(frozen=True)
class LedgerStatus:
    """Counts of the queue.

    Attributes:
        series: Number of series by state; states without any are absent.
        jobs: The same for jobs.
        deliveries: The same for the deliveries to each destination.
        pauses: The stages that an operator has paused.
        oldest_open_at: Creation of the oldest job that is neither DONE, CANCELLED nor FAILED.
    """

    series: dict[SeriesState, int]
    jobs: dict[JobState, int]
    deliveries: dict[str, dict[DeliveryState, int]]
    pauses: tuple[Pause, ...]
    oldest_open_at: float | None


def status(ledger: Ledger) -> LedgerStatus:
    """Count series, jobs and deliveries by state.

    Deliveries of cancelled jobs do not count, nor what is pending in a job that has FAILED: it is
    owed only once the job is tried again.
    """
    counted = select(JobRow.state, func.count()).group_by(JobRow.state)
    sent = (
        select(DeliveryRow.destination, DeliveryRow.state, func.count())
        .join(JobRow, JobRow.id == DeliveryRow.job_id)
        .where(
            JobRow.state != JobState.CANCELLED,
            or_(JobRow.state != JobState.FAILED, DeliveryRow.state != DeliveryState.PENDING),
        )
        .group_by(DeliveryRow.destination, DeliveryRow.state)
        .order_by(DeliveryRow.destination)
    )
    unfinished = JobRow.state.not_in({*CLOSED, JobState.FAILED})
    deliveries: dict[str, dict[DeliveryState, int]] = {}
    with ledger.read() as session:
        jobs = {JobState(state): count for state, count in session.execute(counted)}
        for destination, state, count in session.execute(sent):
            deliveries.setdefault(destination, {})[DeliveryState(state)] = count
        oldest = session.scalar(select(func.min(JobRow.created_at)).where(unfinished))
    return LedgerStatus(
        series=count_series(ledger),
        jobs=jobs,
        deliveries=deliveries,
        pauses=tuple(list_pauses(ledger)),
        oldest_open_at=oldest,
    )


def list_jobs(ledger: Ledger, *, states: Collection[JobState] = (), limit: int = 50) -> list[Job]:
    """Return the jobs in the given states (any when empty), newest first."""
    chosen = select(JobRow).order_by(JobRow.id.desc()).limit(limit)
    if states:
        chosen = chosen.where(JobRow.state.in_(states))
    with ledger.read() as session:
        return [job_of(row) for row in session.scalars(chosen)]


def get_job(ledger: Ledger, job_id: int) -> Job:
    """Return one job.

    Raises:
        InputError: There is no job of this number.
    """
    with ledger.read() as session:
        row = session.get(JobRow, job_id)
        if row is None:
            raise InputError(f"There is no job {job_id}; `dicom-node jobs list` shows them all.")
        return job_of(row)


@repeated
def retry(ledger: Ledger, job_id: int, *, now: float) -> Job:
    """Retry a job at once, from the first stage that is missing, at refused destinations too.

    Raises:
        InputError: There is no such job.
        WrongState: The job is done or under way, or its images were purged.
    """
    with ledger.write() as session:
        row = _locked(session, job_id)
        waiting = [item for item in row.deliveries if _is_waiting(item)]
        if row.state in _UNDER_WAY or (row.state in _SENT and not waiting):
            raise WrongState(f"Job {job_id} is {row.state}: it is under way already.")
        if row.state == JobState.DONE:
            raise WrongState(f"Job {job_id} is done already: every destination has its results.")
        if all(image.purged for image in row.series.instances):
            raise WrongState(f"Job {job_id} cannot be retried: its images were purged by age.")
        for delivery in waiting:
            delivery.attempts, delivery.waits, delivery.next_at = 0, 0, AT_ONCE
            if delivery.state == DeliveryState.REFUSED:
                move_delivery(session, delivery, DeliveryState.PENDING, now=now, reason=_RETRIED)
        _begin_again(session, row, now)
        return job_of(row)


@repeated
def cancel(ledger: Ledger, job_id: int, *, now: float) -> Job:
    """Cancel a job; a process that works on it notices at its next heartbeat.

    Raises:
        InputError: There is no such job.
        WrongState: The job is DONE or cancelled already.
    """
    with ledger.write() as session:
        row = _locked(session, job_id)
        if row.state in CLOSED:
            raise WrongState(f"Job {job_id} is {row.state.lower()} already.")
        reason = "cancelled by an operator"
        move_job(session, row, JobState.CANCELLED, now=now, reason=reason)
        for delivery in row.deliveries:
            if delivery.state in (DeliveryState.SENDING, DeliveryState.COMMITTING):
                move_delivery(session, delivery, DeliveryState.PENDING, now=now, reason=reason)
        return job_of(row)


def release_lost_leases(
    ledger: Ledger,
    *,
    now: float,
    attempts: int,
    is_dead: Callable[[str], bool] = lambda owner: False,
    crash: Callable[[str], str] = _unknown_end,
) -> list[Job]:
    """Make the jobs and deliveries whose processes died, or whose leases ran out, claimable again.

    What was taken back ``attempts`` times is FAILED, or REFUSED, instead of tried for
    ever; a job that has itself killed ``MAX_DEATHS`` also fails. Released work joins the end of the
    queue.

    Args:
        ledger: The ledger.
        now: Seconds since 1970; leases that end before are lost.
        attempts: Claims that a job or delivery gets.
        is_dead: Returns whether an owner's process is known to have ended: no need to wait.
        crash: Returns the cause of an owner's end if its own work was it; empty for a kill, a power
            cut, a lost host.

    Returns:
        The jobs released, and those whose deliveries were.
    """
    denoising = select(JobRow.id, JobRow.owner, JobRow.lease_until)
    sending = select(DeliveryRow.job_id, DeliveryRow.owner, DeliveryRow.lease_until)
    with ledger.read() as session:
        held = [
            *session.execute(denoising.where(JobRow.owner.is_not(None))),
            *session.execute(sending.where(DeliveryRow.owner.is_not(None))),
        ]

    jobs = {
        job_id
        for job_id, owner, lease_until in held
        if is_lost(owner or "", lease_until, is_dead, now=now)
    }
    return [
        release_job(ledger, job_id, is_dead, crash, now=now, attempts=attempts)
        for job_id in sorted(jobs)
    ]


@repeated
def wake_waiting(ledger: Ledger, *, now: float) -> list[Job]:
    """Return every job to QUEUED whose pause before the next attempt is over."""
    due = select(JobRow).where(
        JobRow.state == JobState.RETRY_WAIT,
        JobRow.derived_at.is_(None),
        or_(JobRow.next_at <= now, JobRow.updated_at > now + CLOCK_SLACK_SECONDS),
    )
    with ledger.write() as session:
        rows = session.scalars(due.with_for_update(skip_locked=True)).all()
        for row in rows:
            move_job(session, row, JobState.QUEUED, now=now, reason=row.reason)
        return [job_of(row) for row in rows]


def unnotified(ledger: Ledger) -> list[Job]:
    """Return the FAILED jobs that were not yet notified, oldest first."""
    chosen = select(JobRow).where(JobRow.state == JobState.FAILED, JobRow.notified_at.is_(None))
    with ledger.read() as session:
        return [job_of(row) for row in session.scalars(chosen.order_by(JobRow.updated_at))]


@repeated
def mark_notified(ledger: Ledger, job_id: int, *, now: float) -> None:
    """Note that a job's failure was notified; a retry clears the note."""
    failed = update(JobRow).where(JobRow.id == job_id, JobRow.state == JobState.FAILED)
    with ledger.write() as session:
        session.execute(failed.values(notified_at=now))


def closed_tokens(ledger: Ledger, *, before: float) -> set[str]:
    """Return the outbox folders of jobs that were DONE or CANCELLED before a moment."""
    chosen = select(JobRow.token).where(JobRow.state.in_(CLOSED), JobRow.updated_at < before)
    with ledger.read() as session:
        return set(session.scalars(chosen))


def busy_tokens(ledger: Ledger) -> set[str]:
    """Return the outbox folders of the jobs that a process works on."""
    with ledger.read() as session:
        return set(session.scalars(select(JobRow.token).where(JobRow.owner.is_not(None))))


def _locked(session: Session, job_id: int) -> JobRow:
    """Return a job, locked with its series so that retention cannot purge its images."""
    of_job = select(JobRow.series_id).where(JobRow.id == job_id).scalar_subquery()
    series = select(SeriesRow.id).where(SeriesRow.id == of_job).with_for_update()
    if session.scalar(series) is None:
        raise InputError(f"There is no job {job_id}; `dicom-node jobs list` shows them all.")
    return session.get_one(JobRow, job_id, with_for_update=True)


def _is_waiting(delivery: DeliveryRow) -> bool:
    """Return whether no process has the delivery in hand."""
    return delivery.state in (DeliveryState.PENDING, DeliveryState.REFUSED)


def _begin_again(session: Session, row: JobRow, now: float) -> None:
    after = JobState.QUEUED if row.derived_at is None else state_of(row.deliveries)
    row.attempts = row.waits = row.deaths = 0
    row.next_at = now
    if after != row.state:
        move_job(session, row, after, now=now, reason=_RETRIED)
    roll_up(session, row, now=now)

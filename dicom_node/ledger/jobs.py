"""Jobs up to their results as their owners see them: claim, heartbeat, results, faults.

A claim is a lease: whoever holds it beats until the work is done. Every call that ends or extends
one names its owner; once the lease has gone to somebody else it raises :class:`LeaseLost` and
changes nothing. Sending is leased by delivery (:mod:`dicom_node.ledger.deliveries`).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dicom_node.canonical import canonical_json
from dicom_node.errors import NodeError
from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.history import move_job, move_series, note
from dicom_node.ledger.lineage import covered
from dicom_node.ledger.model import Job, job_of
from dicom_node.ledger.series import Series, awaiting_decision
from dicom_node.ledger.states import JobState, SeriesState
from dicom_node.ledger.tables import DeliveryRow, InstanceRow, JobRow, PauseRow

LEASE_SECONDS = 60.0
"""A process that has not beaten for so long is taken for dead; it beats three times as often."""

URGENT, NORMAL, OFF_PEAK = 0, 1, 2
"""Priorities; those of off-peak jobs are claimed only when the caller says that it is off-peak."""


class LeaseLost(NodeError):  # noqa: N818 - the name says what happened
    """The work no longer belongs to this process: cancelled, or its lease ran out."""


@dataclass(frozen=True)
class Work:
    """What is to be done with a series.

    Attributes:
        model: Name of the model.
        strength: 0 to 1.
        destinations: Names of the peers that get the results.
        priority: 0 urgent, 1 normal, 2 off-peak.
        rule: Name of the rule that ordered it; empty for the default.
        remark: What stands as the series' reason, such as what is left out; empty for nothing.
    """

    model: str
    strength: float
    destinations: Sequence[str]
    priority: int = NORMAL
    rule: str = ""
    remark: str = ""


@repeated
def enqueue(ledger: Ledger, series: Series, work: Work, *, now: float) -> Job | None:
    """Make the job of a COMPLETE series and mark the series ENQUEUED, in one step.

    A job of an earlier generation which nobody has begun is cancelled: this one covers its images.
    Images of which an earlier job makes the same results are left to it (:func:`fresh_names`).

    Returns:
        The job, or None when a late slice has reopened the series meanwhile.
    """
    with ledger.write() as session:
        row = awaiting_decision(session, series)
        if row is None:
            return None
        _supersede(session, row.id, row.generation, now)
        job = JobRow(
            series_id=row.id,
            generation=row.generation,
            since_generation=covered(session, row.id, row.generation, work),
            digest=_digest(session, row.id, work),
            token=uuid.uuid4().hex,
            state=JobState.QUEUED,
            model=work.model,
            strength=work.strength,
            priority=work.priority,
            rule=work.rule,
            gap=row.gap,
            next_at=now,
            created_at=now,
            updated_at=now,
            deliveries=[
                DeliveryRow(destination=name, next_at=now, updated_at=now)
                for name in dict.fromkeys(work.destinations)
            ],
        )
        session.add(job)
        session.flush()
        note(session, job, "", work.remark, now)
        move_series(session, row, SeriesState.ENQUEUED, now=now, reason=work.remark)
        row.rule = work.rule
        return job_of(job)


@repeated
def claim(
    ledger: Ledger,
    *,
    owner: str,
    off_peak: bool,
    lease_seconds: float = LEASE_SECONDS,
    now: float,
) -> Job | None:
    """Take the next job to be denoised; nobody else gets it while the lease lasts.

    Urgent ones come first, off-peak ones last and only in their hours, behind all others those that
    have killed a process; of equals the oldest. None while the stage is paused. One statement.
    """
    paused = select(PauseRow.stage).where(PauseRow.stage == "denoise")
    next_one = (
        select(JobRow.id)
        .where(JobRow.state == JobState.QUEUED, ~paused.exists())
        .order_by(JobRow.deaths, JobRow.priority, JobRow.next_at, JobRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if not off_peak:
        next_one = next_one.where(JobRow.priority < OFF_PEAK)
    take = (
        update(JobRow)
        .where(JobRow.id == next_one.scalar_subquery(), JobRow.state == JobState.QUEUED)
        .values(
            state=JobState.DENOISING,
            owner=owner,
            lease_until=now + lease_seconds,
            attempts=JobRow.attempts + 1,
            updated_at=now,
        )
        .returning(JobRow)
        .execution_options(synchronize_session=False)
    )
    with ledger.write() as session:
        row = session.scalar(take)
        if row is None:
            return None
        note(session, row, JobState.QUEUED, "", now)
        return job_of(row)


@repeated
def heartbeat(
    ledger: Ledger, job_id: int, *, owner: str, lease_seconds: float = LEASE_SECONDS, now: float
) -> bool:
    """Extend the lease; False when the job is no longer this owner's."""
    beat = (
        update(JobRow)
        .where(JobRow.id == job_id, JobRow.owner == owner)
        .values(lease_until=now + lease_seconds)
        .returning(JobRow.id)
        .execution_options(synchronize_session=False)
    )
    with ledger.write() as session:
        return session.scalar(beat) is not None


@repeated
def derived(ledger: Ledger, job_id: int, *, owner: str, count: int, now: float) -> Job:
    """The derived files are durable: the job is DERIVED and never needs the GPU again."""

    def change(session: Session, row: JobRow) -> None:
        row.derived_at, row.derived_count = now, count
        row.attempts = row.waits = 0
        for delivery in row.deliveries:
            delivery.next_at = now
        move_job(session, row, JobState.DERIVED, now=now)

    return _as_owner(ledger, job_id, owner, change)


@repeated
def retry_later(
    ledger: Ledger,
    job_id: int,
    *,
    owner: str,
    reason: str,
    next_at: float,
    counted: bool = True,
    now: float,
) -> Job:
    """A passing fault: try to denoise again at ``next_at``.

    ``counted`` says whether the attempt is spent; one that found the disk full is not.
    """

    def change(session: Session, row: JobRow) -> None:
        row.next_at = next_at
        if not counted:
            row.attempts, row.waits = row.attempts - 1, row.waits + 1
        move_job(session, row, JobState.RETRY_WAIT, now=now, reason=reason)

    return _as_owner(ledger, job_id, owner, change)


@repeated
def fail(ledger: Ledger, job_id: int, *, owner: str, reason: str, now: float) -> Job:
    """A lasting fault, or the attempts are spent: an operator must look."""

    def change(session: Session, row: JobRow) -> None:
        move_job(session, row, JobState.FAILED, now=now, reason=reason)

    return _as_owner(ledger, job_id, owner, change)


@repeated
def give_back(ledger: Ledger, job_id: int, *, owner: str, now: float) -> Job:
    """Stopped on request before the end: the attempt does not count."""

    def change(session: Session, row: JobRow) -> None:
        row.attempts -= 1
        move_job(session, row, JobState.QUEUED, now=now, reason="given back on stopping")

    return _as_owner(ledger, job_id, owner, change)


def source_names(ledger: Ledger, job: Job) -> list[str]:
    """Inbox names of the images that belong to a job: all that came up to its generation."""
    return _names(ledger, job, after=0)


def fresh_names(ledger: Ledger, job: Job) -> list[str]:
    """Inbox names of the images that this job denoises: those that no earlier job covers."""
    return _names(ledger, job, after=job.since_generation)


def _names(ledger: Ledger, job: Job, *, after: int) -> list[str]:
    chosen = (
        select(InstanceRow.name)
        .join(JobRow, JobRow.series_id == InstanceRow.series_id)
        .where(
            JobRow.id == job.id,
            InstanceRow.generation > after,
            InstanceRow.generation <= JobRow.generation,
            InstanceRow.purged.is_(False),
        )
        .order_by(InstanceRow.sop_uid)
    )
    with ledger.read() as session:
        return list(session.scalars(chosen))


def _as_owner(
    ledger: Ledger, job_id: int, owner: str, change: Callable[[Session, JobRow], None]
) -> Job:
    with ledger.write() as session:
        row = session.get(JobRow, job_id, with_for_update=True)
        if row is None or row.owner != owner:
            raise LeaseLost(f"job {job_id} no longer belongs to this process.")
        change(session, row)
        return job_of(row)


def _supersede(session: Session, series_id: int, generation: int, now: float) -> None:
    waiting = select(JobRow).where(
        JobRow.series_id == series_id,
        JobRow.generation < generation,
        JobRow.derived_at.is_(None),
        JobRow.state.in_((JobState.QUEUED, JobState.RETRY_WAIT)),
    )
    for row in session.scalars(waiting.with_for_update()):
        reason = f"its images are part of generation {generation}"
        move_job(session, row, JobState.CANCELLED, now=now, reason=reason)


def _digest(session: Session, series_id: int, work: Work) -> str:
    """Identity of the work: the bytes of all images and what is to be done with them."""
    images = session.execute(
        select(InstanceRow.sop_uid, InstanceRow.sha256)
        .where(InstanceRow.series_id == series_id, InstanceRow.purged.is_(False))
        .order_by(InstanceRow.sop_uid)
    )
    content = [[uid, sha256] for uid, sha256 in images]
    deciding = [content, work.model, work.strength]
    return hashlib.sha256(canonical_json(deciding).encode()).hexdigest()

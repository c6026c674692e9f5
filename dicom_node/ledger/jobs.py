"""Jobs as their owners see them: claim, heartbeat, results, faults.

A claim is a lease: whoever holds it beats until the work is done. Every call that ends or extends
one names its owner; once the lease has gone to somebody else it raises :class:`LeaseLost` and
changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dicom_node.errors import NodeError
from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.history import move_job, move_series, note
from dicom_node.ledger.model import Job, job_of
from dicom_node.ledger.series import Series, awaiting_decision
from dicom_node.ledger.states import DeliveryState, JobState, SeriesState, WrongState
from dicom_node.ledger.tables import DeliveryRow, InstanceRow, JobRow

Stage = Literal["denoise", "send"]

READY: dict[Stage, JobState] = {"denoise": JobState.QUEUED, "send": JobState.DERIVED}
RUNNING: dict[Stage, JobState] = {"denoise": JobState.DENOISING, "send": JobState.SENDING}

LEASE_SECONDS = 60.0
"""A process that has not beaten for so long is taken for dead; it beats three times as often."""


class LeaseLost(NodeError):  # noqa: N818 - the name says what happened
    """The job no longer belongs to this process: cancelled, or its lease ran out."""


def enqueue(
    ledger: Ledger,
    series: Series,
    *,
    model: str,
    strength: float,
    destinations: Sequence[str],
    now: float,
) -> Job | None:
    """Make the job of a COMPLETE series and mark the series ENQUEUED, in one step.

    A job of an earlier generation which nobody has begun is cancelled: this one covers its images.

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
            digest=_digest(session, row.id, model, strength),
            token=uuid.uuid4().hex,
            state=JobState.QUEUED,
            model=model,
            strength=strength,
            next_at=now,
            created_at=now,
            updated_at=now,
            deliveries=[DeliveryRow(destination=name) for name in destinations],
        )
        session.add(job)
        session.flush()
        note(session, job, "", "", now)
        move_series(session, row, SeriesState.ENQUEUED, now=now)
        return job_of(job)


def claim(
    ledger: Ledger, *, stage: Stage, owner: str, lease_seconds: float = LEASE_SECONDS, now: float
) -> Job | None:
    """Take the oldest job that is ready for a stage; nobody else gets it while the lease lasts.

    One statement finds and takes it. SQLite holds the write lock; PostgreSQL skips locked rows.
    """
    ready, running = READY[stage], RUNNING[stage]
    oldest = (
        select(JobRow.id)
        .where(JobRow.state == ready, JobRow.next_at <= now)
        .order_by(JobRow.next_at, JobRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    take = (
        update(JobRow)
        .where(JobRow.id == oldest, JobRow.state == ready)
        .values(
            state=running,
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
        note(session, row, ready, "", now)
        return job_of(row)


def heartbeat(
    ledger: Ledger,
    job_id: int,
    *,
    owner: str,
    lease_seconds: float = LEASE_SECONDS,
    now: float,
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


def derived(ledger: Ledger, job_id: int, *, owner: str, count: int, now: float) -> Job:
    """The derived files are durable: the job is DERIVED and never needs the GPU again."""

    def change(session: Session, row: JobRow) -> None:
        row.derived_at, row.derived_count = now, count
        row.attempts = 0  # the attempts to send are counted from here
        move_job(session, row, JobState.DERIVED, now=now)

    return _as_owner(ledger, job_id, owner, change)


def done(ledger: Ledger, job_id: int, *, owner: str, now: float) -> Job:
    """Every destination has confirmed every image.

    Raises:
        LeaseLost: The job is no longer this owner's.
        WrongState: A destination has not confirmed.
    """

    def change(session: Session, row: JobRow) -> None:
        if any(item.state != DeliveryState.CONFIRMED for item in row.deliveries):
            raise WrongState(f"job {row.id} is not done: a destination has not confirmed.")
        move_job(session, row, JobState.DONE, now=now)

    return _as_owner(ledger, job_id, owner, change)


def retry_later(
    ledger: Ledger, job_id: int, *, owner: str, reason: str, next_at: float, now: float
) -> Job:
    """A passing fault: try the same stage again at ``next_at``."""

    def change(session: Session, row: JobRow) -> None:
        row.next_at = next_at
        move_job(session, row, JobState.RETRY_WAIT, now=now, reason=reason)

    return _as_owner(ledger, job_id, owner, change)


def fail(ledger: Ledger, job_id: int, *, owner: str, reason: str, now: float) -> Job:
    """A lasting fault, or the attempts are spent: an operator must look."""
    return _as_owner(
        ledger,
        job_id,
        owner,
        lambda session, row: move_job(session, row, JobState.FAILED, now=now, reason=reason),
    )


def results_lost(ledger: Ledger, job_id: int, *, owner: str, now: float) -> Job:
    """The derived files have gone from the disk: FAILED, and a retry begins with denoising."""

    def change(session: Session, row: JobRow) -> None:
        row.derived_at, row.derived_count = None, 0
        reason = f"its derived files are gone; `dicom-node jobs retry {job_id}` makes them anew"
        move_job(session, row, JobState.FAILED, now=now, reason=reason)

    return _as_owner(ledger, job_id, owner, change)


def give_back(ledger: Ledger, job_id: int, *, owner: str, now: float) -> Job:
    """Stopped on request before the end: the attempt does not count."""

    def change(session: Session, row: JobRow) -> None:
        row.attempts -= 1
        move_job(session, row, ready_state(row), now=now, reason="given back on stopping")

    return _as_owner(ledger, job_id, owner, change)


def source_names(ledger: Ledger, job: Job) -> list[str]:
    """Inbox names of the images that belong to a job: all that came up to its generation."""
    chosen = (
        select(InstanceRow.name)
        .join(JobRow, JobRow.series_id == InstanceRow.series_id)
        .where(
            JobRow.id == job.id,
            InstanceRow.generation <= JobRow.generation,
            InstanceRow.purged.is_(False),
        )
        .order_by(InstanceRow.sop_uid)
    )
    with ledger.read() as session:
        return list(session.scalars(chosen))


def ready_state(row: JobRow) -> JobState:
    """Where a job waits for its next stage: DERIVED once its derived files are durable."""
    return JobState.QUEUED if row.derived_at is None else JobState.DERIVED


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


def _digest(session: Session, series_id: int, model: str, strength: float) -> str:
    """Identity of the work: the bytes of all images and what is to be done with them."""
    images = session.execute(
        select(InstanceRow.sop_uid, InstanceRow.sha256)
        .where(InstanceRow.series_id == series_id, InstanceRow.purged.is_(False))
        .order_by(InstanceRow.sop_uid)
    )
    content = [[uid, sha256] for uid, sha256 in images]
    return hashlib.sha256(json.dumps([content, model, strength]).encode()).hexdigest()

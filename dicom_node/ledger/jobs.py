"""Jobs up to their results: enqueue them, claim them, settle them.

Sending is leased by delivery (:mod:`dicom_node.ledger.deliveries`).
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.canonical import canonical_json
from dicom_node.ledger.claim import LEASE_SECONDS, Claim, Clock, take
from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.fault import Fault
from dicom_node.ledger.history import move_job, move_series, note
from dicom_node.ledger.lineage import covered, kept_gain
from dicom_node.ledger.model import Job, job_of
from dicom_node.ledger.series import Series, awaiting_decision
from dicom_node.ledger.states import JobState, SeriesState
from dicom_node.ledger.tables import DeliveryRow, InstanceRow, JobRow, PauseRow, SeriesRow
from dicom_node.settings import RetrySettings
from dicom_node.work_order import AUTO, MeasuredGain, Priority, WorkOrder, fixed_gain


@repeated
def enqueue(ledger: Ledger, series: Series, order: WorkOrder, *, now: float) -> Job | None:
    """Create the job of a COMPLETE series and mark the series ENQUEUED, in one step.

    A job of an earlier generation that has not begun is cancelled: this one covers its images.
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
            since_generation=covered(session, row.id, row.generation, order),
            digest=_digest(session, row.id, order),
            token=uuid.uuid4().hex,
            state=JobState.QUEUED,
            model=order.model,
            strength=order.strength,
            dose_gain=fixed_gain(order.dose_gain),
            auto_gain=order.dose_gain == AUTO,
            target_noise_hu=order.target_noise_hu,
            priority=order.priority,
            rule=order.rule,
            gap=row.gap,
            next_at=now,
            created_at=now,
            updated_at=now,
            deliveries=[
                DeliveryRow(destination=name, next_at=now, updated_at=now)
                for name in dict.fromkeys(order.destinations)
            ],
        )
        session.add(job)
        session.flush()
        note(session, job, "", order.remark, now)
        move_series(session, row, SeriesState.ENQUEUED, now=now, reason=order.remark)
        row.rule = order.rule
        return job_of(job)


def claim_job(
    ledger: Ledger, *, owner: str, off_peak: bool, clock: Clock = time.time
) -> JobClaim | None:
    """Claim the next job to be denoised; nobody else gets it while the lease lasts.

    Urgent jobs come first, off-peak ones last and only in their hours, behind all others those that
    have killed a process; of equals the oldest. None while the stage is paused.

    Args:
        ledger: The ledger.
        owner: Name of the process that claims it.
        off_peak: Whether these are the hours of off-peak jobs.
        clock: Seconds since 1970.
    """
    job = _claimed(ledger, owner=owner, off_peak=off_peak, now=clock())
    return None if job is None else JobClaim(ledger=ledger, owner=owner, clock=clock, job=job)


@repeated
def _claimed(ledger: Ledger, *, owner: str, off_peak: bool, now: float) -> Job | None:
    paused = select(PauseRow.stage).where(PauseRow.stage == "denoise")
    next_one = (
        select(JobRow.id)
        .where(JobRow.state == JobState.QUEUED, ~paused.exists())
        .order_by(JobRow.deaths, JobRow.priority, JobRow.next_at, JobRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if not off_peak:
        next_one = next_one.where(JobRow.priority < Priority.OFF_PEAK)
    taking = take(
        JobRow,
        next_one.scalar_subquery(),
        JobRow.state == JobState.QUEUED,
        owner=owner,
        until=now + LEASE_SECONDS,
        state=JobState.DENOISING,
        updated_at=now,
    )
    with ledger.write() as session:
        row = session.scalar(taking)
        if row is None:
            return None
        note(session, row, JobState.QUEUED, "", now)
        return job_of(row)


@dataclass(frozen=True, kw_only=True)
class JobClaim(Claim[JobRow, Job]):
    """A job in the hands of the process that denoises it.

    Attributes:
        job: The job when it was claimed.
    """

    job: Job

    table = JobRow

    @property
    def id(self) -> int:
        """Number of the job."""
        return self.job.id

    def __str__(self) -> str:
        return f"Job {self.id}"

    def keep_gain(self, measured: MeasuredGain) -> Job:
        """Keep the dose gain that follows from the series.

        All images of a series get the same: that which the first of its jobs has kept counts.

        Raises:
            LeaseLost: The job is no longer this owner's.
        """

        def act(session: Session, row: JobRow) -> Job:
            session.get(SeriesRow, row.series_id, with_for_update=True)  # one job after another
            kept = kept_gain(session, job_of(row)) or measured
            row.measured_gain, row.gain_basis = kept.gain, kept.basis
            return job_of(row)

        return self.change(act)

    def derived(self, count: int) -> Job:
        """Mark the job DERIVED: its files are durable, and it never needs the GPU again.

        Args:
            count: Derived images.

        Raises:
            LeaseLost: The job is no longer this owner's.
        """

        def act(row: JobRow, now: float) -> None:
            row.derived_at, row.derived_count = now, count
            row.attempts = row.waits = 0
            for delivery in row.deliveries:
                delivery.next_at = now

        return self._move(JobState.DERIVED, act)

    def retry_later(self, reason: str, *, delay_seconds: float, counted: bool = True) -> Job:
        """Bring the job into RETRY_WAIT; an attempt that found the disk full does not count."""

        def act(row: JobRow, now: float) -> None:
            row.next_at = now + delay_seconds
            if not counted:
                row.attempts, row.waits = row.attempts - 1, row.waits + 1

        return self._move(JobState.RETRY_WAIT, act, reason)

    def fail(self, reason: str) -> Job:
        """Mark the job FAILED: an operator must look."""
        return self._move(JobState.FAILED, lambda _row, _now: None, reason)

    def give_back(self) -> Job:
        """Return the job to the queue on stopping; the attempt does not count.

        Raises:
            LeaseLost: The job is no longer this owner's.
        """

        def act(row: JobRow, _now: float) -> None:
            row.attempts -= 1

        return self._move(JobState.QUEUED, act, "given back on stopping")

    def fault(self, error: Exception, retry: RetrySettings) -> Fault:
        """Judge an error of the denoising."""
        return Fault.of(error, self.job, retry)

    def locked(self, session: Session) -> JobRow | None:
        """Lock the job's row."""
        return session.get(JobRow, self.id, with_for_update=True)

    def _move(self, after: JobState, act: Callable[[JobRow, float], None], reason: str = "") -> Job:
        now = self.clock()

        def moved(session: Session, row: JobRow) -> Job:
            act(row, now)
            move_job(session, row, after, now=now, reason=reason)
            return job_of(row)

        return self.change(moved)


def source_names(ledger: Ledger, job: Job) -> list[str]:
    """Return the inbox names of the images of a job: all that came up to its generation."""
    return _names(ledger, job, after=0)


def fresh_names(ledger: Ledger, job: Job) -> list[str]:
    """Return the inbox names of the images that no earlier job covers."""
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


def _digest(session: Session, series_id: int, order: WorkOrder) -> str:
    """Return the identity of the work: the bytes of all images, model, strength, noise wanted."""
    images = session.execute(
        select(InstanceRow.sop_uid, InstanceRow.sha256)
        .where(InstanceRow.series_id == series_id, InstanceRow.purged.is_(False))
        .order_by(InstanceRow.sop_uid)
    )
    content = [[uid, sha256] for uid, sha256 in images]
    deciding = [content, order.model, order.strength]
    if order.dose_gain is not None:
        deciding.append(order.dose_gain)
    if order.target_noise_hu is not None:
        deciding.append({"target_noise_hu": order.target_noise_hu})
    return hashlib.sha256(canonical_json(deciding).encode()).hexdigest()

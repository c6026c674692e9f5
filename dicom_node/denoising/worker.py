"""The worker: claim a job, denoise its series, make the derived files durable."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol

from dicom_node import telemetry
from dicom_node.crashes import CrashRecord, crash_causes
from dicom_node.ct.patient import check_marks
from dicom_node.custody import open_custody
from dicom_node.denoising.report import ImplausibleResult, ReportFolder, RunReport
from dicom_node.errors import DeviceFault
from dicom_node.ledger.claim import LeaseLost
from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.jobs import JobClaim, claim_job, fresh_names, source_names
from dicom_node.ledger.leases import Heartbeat, is_dead, owner_name, work_until
from dicom_node.ledger.lineage import earlier_tokens, first_gain, former_tokens
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import release_lost_leases
from dicom_node.logs import bound, get_logger, short_hash
from dicom_node.settings import OffPeakSettings, RetrySettings, Settings
from dicom_node.store.inbox import Inbox
from dicom_node.store.outbox import Outbox
from dicom_node.work_order import MeasuredGain

log = get_logger(__name__)

ShouldStop = Callable[[], bool]


class Denoise(Protocol):
    """Denoises the files of one series into derived files."""

    def derived_series_uid(self, job: Job) -> str:
        """Return the Series Instance UID that the result of a job gets, before it is made.

        Raises:
            ModelUnavailable: The job's model cannot be loaded here, or not be told its dose gain.
        """

    def measured_gain(self, files: Sequence[Path], *, job: Job) -> MeasuredGain:
        """Return the dose gain that brings the noise of a series to what its job wants.

        Args:
            files: All images of the series so far.
            job: Model, and noise wanted or ``AUTO``.

        Raises:
            Exception: As in ``__call__``.
        """

    def __call__(
        self,
        files: Sequence[Path],
        folder: Path,
        *,
        job: Job,
        only: Collection[Path] | None,
        should_stop: ShouldStop,
    ) -> RunReport:
        """Write the derived files into ``folder``; returns the report.

        Args:
            files: All images of the series so far.
            folder: Empty.
            job: Model, strength and dose gain.
            only: The images to derive, where the others are the work of an earlier job; None: all.
            should_stop: Called before every batch of slices.

        Raises:
            Exception: Nothing usable was written; a ``NodeError`` tells whether it passes. Also
                when ``should_stop`` returned True.
        """


class Worker:
    """Process jobs from QUEUED to DERIVED, one at a time.

    Args:
        ledger: The ledger.
        inbox: Where the received images are.
        outbox: Where the derived images go.
        reports: Folder of the run reports.
        denoise: Denoises a series.
        retry: Number and delays of the attempts after passing faults.
        off_peak: The hours in which off-peak jobs are claimed; None: any.
        owner: Name of this worker in the ledger.
        record: Crash record that names the job in hand.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        ledger: Ledger,
        inbox: Inbox,
        outbox: Outbox,
        reports: Path,
        denoise: Denoise,
        retry: RetrySettings,
        *,
        off_peak: OffPeakSettings | None = None,
        owner: str | None = None,
        record: CrashRecord | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger, self._inbox, self._outbox = ledger, inbox, outbox
        self._reports = ReportFolder(reports)
        self._denoise, self._retry, self._clock = denoise, retry, clock
        self._off_peak, self._owner = off_peak, owner or owner_name()
        self._holding = record.holding if record else nullcontext

    def work_once(self, should_stop: ShouldStop) -> bool:
        """Process the next job; return whether there was one.

        A job that is stopped half-way goes back to the queue and the attempt does not count. One
        whose lease was lost is left to its new owner.

        Raises:
            DeviceFault: This process cannot use the device any more; the job waits for another.
        """
        off_peak = self._off_peak is None or self._off_peak.holds_at(self._clock())
        claim = claim_job(self._ledger, owner=self._owner, off_peak=off_peak, clock=self._clock)
        if claim is None:
            return False
        job = claim.job
        with (
            bound(job=job.id, series=short_hash(job.series_uid)),
            Heartbeat(claim) as beat,
            self._holding(f"job {job.id}"),
        ):
            try:
                self._do(claim, lambda: should_stop() or beat.lost.is_set())
            except LeaseLost:
                log.warning("job left to its new owner")
            except Exception as error:
                self._settle(claim, error, stopped=should_stop(), lost=beat.lost.is_set())
                if isinstance(error, DeviceFault):
                    raise
        return True

    def _do(self, claim: JobClaim, should_stop: ShouldStop) -> None:
        begin = time.perf_counter()
        job = claim.job
        # A worker that died after the rename has left a whole result: nothing is denoised again.
        files = self._outbox.committed(job.token) or self._derive(claim, should_stop)
        claim.derived(len(files))
        seconds = round(time.perf_counter() - begin, 2)
        telemetry.stage_seconds("denoise", seconds)
        log.info("series denoised", images=len(files), model=job.model, seconds=seconds)

    def _derive(self, claim: JobClaim, should_stop: ShouldStop) -> tuple[Path, ...]:
        sources = [self._inbox.path(name) for name in source_names(self._ledger, claim.job)]
        job = self._with_gain(claim, sources)
        late = self._late_images(job, len(sources))
        images = len(sources if late is None else late)
        log.info("denoising", images=images, model=job.model, attempt=job.attempts)
        staging = self._outbox.stage(job.token)
        try:
            report = self._denoise(sources, staging, job=job, only=late, should_stop=should_stop)
            self._check_patient(job, report)
            self._reports.keep(job.token, report)
            return self._outbox.commit(job.token, staging)
        except BaseException as error:
            self._outbox.discard(staging)
            if isinstance(error, ImplausibleResult):
                self._reports.keep(job.token, error.report)
            raise

    def _with_gain(self, claim: JobClaim, sources: Sequence[Path]) -> Job:
        """Return the job, whose dose gain is known if it follows from the series."""
        job = claim.job
        if not job.measures:
            return job
        known = first_gain(self._ledger, job)
        return claim.keep_gain(known or self._denoise.measured_gain(sources, job=job))

    def _late_images(self, job: Job, total: int) -> set[Path] | None:
        """Return the images to derive, where earlier jobs derive the others; None: all."""
        if not job.since_generation:
            return None
        late = {self._inbox.path(name) for name in fresh_names(self._ledger, job)}
        if len(late) < total and not self._joins(job):
            log.warning("model or settings have changed since: the whole series is denoised")
            return None
        return late

    def _joins(self, job: Job) -> bool:
        """Return whether late slices join the derived series that earlier jobs have made.

        Otherwise they would be a fragment of a series beside it.
        """
        earlier = self._reports.kept(earlier_tokens(self._ledger, job))
        uids = {report.derived_series_uid for report in earlier}
        return uids <= {self._denoise.derived_series_uid(job)}

    def _check_patient(self, job: Job, report: RunReport) -> None:
        """Compare with what was derived of the series before, also where its images are missing.

        Raises:
            InputError: These images are another patient's.
        """
        for earlier in self._reports.kept(former_tokens(self._ledger, job)):
            if earlier.patient_marks is not None:
                check_marks(earlier.patient_marks, report.patient_marks)

    def _settle(self, claim: JobClaim, error: Exception, *, stopped: bool, lost: bool) -> None:
        try:
            if stopped:
                claim.give_back()
                log.info("job given back")
            elif not lost:
                job = claim.settle(error, self._retry)
                attempt = claim.job.attempts
                log.warning("job stopped", state=job.state, attempt=attempt, reason=job.reason)
        except LeaseLost:
            log.warning("job left to its new owner")


def run_worker(settings: Settings, denoise: Denoise, *, should_stop: ShouldStop) -> None:
    """Denoise until ``should_stop``; the job in hand is given back.

    Raises:
        ConfigurationError: The ledger belongs to another version of this program.
        StorageError: The ledger cannot be opened.
    """
    custody = open_custody(settings, should_stop)
    ledger = custody.ledger
    try:
        if not custody.wait(should_stop):
            return
        release_lost_leases(
            ledger,
            now=time.time(),
            attempts=settings.retry.attempts,
            is_dead=is_dead,
            crash=crash_causes(settings.crashes_folder, is_dead),
        )
        with CrashRecord(settings.crashes_folder, owner_name()) as record:
            worker = Worker(
                ledger,
                Inbox(settings.inbox_folder, settings.quarantine_folder),
                Outbox(settings.outbox_folder),
                settings.reports_folder,
                denoise,
                settings.retry,
                off_peak=settings.off_peak,
                record=record,
            )
            work_until(worker.work_once, should_stop)
    finally:
        ledger.close()

"""The worker: claim a job, denoise its series, make the derived files durable."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol

from dicom_node import telemetry
from dicom_node.crashes import CrashRecord, crash_causes
from dicom_node.ct.patient import check_marks
from dicom_node.custody import open_custody
from dicom_node.denoising.models import ModelDenoise
from dicom_node.denoising.report import ImplausibleResult
from dicom_node.errors import DeviceFault
from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.jobs import (
    LeaseLost,
    claim,
    derived,
    fresh_names,
    give_back,
    source_names,
)
from dicom_node.ledger.leases import Heartbeat, is_dead, owner_name, settle_fault, work_until
from dicom_node.ledger.lineage import earlier_tokens, former_tokens
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import release_lost_leases
from dicom_node.logs import bound, get_logger, short_hash
from dicom_node.settings import OffPeakSettings, RetrySettings, Settings
from dicom_node.store.durable import write_durably
from dicom_node.store.inbox import Inbox
from dicom_node.store.outbox import Outbox

log = get_logger(__name__)

ShouldStop = Callable[[], bool]


class Denoise(Protocol):
    """Turns the files of one series into derived files."""

    def __call__(
        self,
        files: Sequence[Path],
        folder: Path,
        *,
        job: Job,
        only: Collection[Path] | None,
        should_stop: ShouldStop,
    ) -> str:
        """Write the derived files into ``folder``; returns the report as JSON.

        Args:
            files: All images of the series so far.
            folder: Empty.
            job: What is to be done.
            only: The images to derive, where the others are the work of an earlier job; None: all.
            should_stop: Asked often.

        Raises:
            Exception: Nothing usable was written; a ``NodeError`` says whether it passes. Also
                when ``should_stop`` said so.
        """


class Worker:
    """Takes jobs from QUEUED to DERIVED, one at a time.

    Args:
        ledger: The ledger.
        inbox: Where the received images are.
        outbox: Where the derived images go.
        reports: Folder of the run reports.
        denoise: Does the work.
        retry: How often and when a passing fault is tried again.
        off_peak: The hours in which off-peak jobs are taken; None: any.
        owner: Name of this worker in the ledger.
        record: Where to note what is in hand.
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
        self._ledger, self._inbox, self._outbox, self._reports = ledger, inbox, outbox, reports
        self._denoise, self._retry, self._clock = denoise, retry, clock
        self._off_peak, self._owner = off_peak, owner or owner_name()
        self._holding = record.holding if record else nullcontext

    def work_once(self, should_stop: ShouldStop) -> bool:
        """Do one job, if there is one; returns whether there was.

        A job that is stopped half-way goes back to the queue and the attempt does not count. One
        whose lease was lost is left to its new owner.

        Raises:
            DeviceFault: This process cannot use the device any more; the job waits for another.
        """
        now = self._clock()
        off_peak = self._off_peak is None or self._off_peak.holds_at(now)
        job = claim(self._ledger, owner=self._owner, off_peak=off_peak, now=now)
        if job is None:
            return False
        with (
            bound(job=job.id, series=short_hash(job.series_uid)),
            Heartbeat(self._ledger, job, owner=self._owner) as beat,
            self._holding(f"job {job.id}"),
        ):
            try:
                self._do(job, lambda: should_stop() or beat.lost.is_set())
            except LeaseLost:
                log.warning("job left to its new owner")
            except Exception as error:
                self._settle(job, error, stopped=should_stop(), lost=beat.lost.is_set())
                if isinstance(error, DeviceFault):
                    raise
        return True

    def _do(self, job: Job, should_stop: ShouldStop) -> None:
        begin = time.perf_counter()
        # A worker that died after the rename has left a whole result: nothing is denoised again.
        files = self._outbox.committed(job.token) or self._derive(job, should_stop)
        derived(self._ledger, job.id, owner=self._owner, count=len(files), now=self._clock())
        seconds = round(time.perf_counter() - begin, 2)
        telemetry.stage_seconds("denoise", seconds)
        log.info("series denoised", images=len(files), model=job.model, seconds=seconds)

    def _derive(self, job: Job, should_stop: ShouldStop) -> tuple[Path, ...]:
        sources = [self._inbox.path(name) for name in source_names(self._ledger, job)]
        only = None
        if job.since_generation:  # the others are denoised, or being so, by an earlier job
            only = {self._inbox.path(name) for name in fresh_names(self._ledger, job)}
        staging, report = self._denoised(job, sources, only, should_stop)
        if only is not None and len(only) < len(sources) and not self._joins(job, report):
            log.warning("model or settings have changed since: the whole series is denoised")
            self._outbox.discard(staging)
            staging, report = self._denoised(job, sources, None, should_stop)
        try:
            self._check_patient(job, report)
            self._keep(job, report)
            return self._outbox.commit(job.token, staging)
        except BaseException:
            self._outbox.discard(staging)
            raise

    def _denoised(
        self,
        job: Job,
        sources: Sequence[Path],
        only: Collection[Path] | None,
        should_stop: ShouldStop,
    ) -> tuple[Path, str]:
        """A staged folder of derived files, and the report."""
        images = len(sources if only is None else only)
        log.info("denoising", images=images, model=job.model, attempt=job.attempts)
        staging = self._outbox.stage(job.token)
        try:
            report = self._denoise(sources, staging, job=job, only=only, should_stop=should_stop)
        except BaseException as error:
            if isinstance(error, ImplausibleResult):
                self._keep(job, error.report.to_json())
            self._outbox.discard(staging)
            raise
        return staging, report

    def _keep(self, job: Job, report: str) -> None:
        write_durably(self._reports / f"{job.token}.json", (report.encode(),))

    def _joins(self, job: Job, report: str) -> bool:
        """Whether late slices join the derived series that earlier jobs have made.

        Otherwise they would stand as a fragment of a series beside it.
        """
        known = self._kept(earlier_tokens(self._ledger, job))
        return {_derived_series(text) for text in known} <= {_derived_series(report)}

    def _check_patient(self, job: Job, report: str) -> None:
        """Compare with what was derived of the series before, also where its images are gone.

        Raises:
            InputError: These images are another patient's.
        """
        present = json.loads(report).get("patient_marks")
        for text in self._kept(former_tokens(self._ledger, job)):
            earlier = json.loads(text).get("patient_marks")  # older versions wrote none
            if earlier is not None and present is not None:
                check_marks(earlier, present)

    def _kept(self, tokens: Sequence[str]) -> list[str]:
        """The reports of other jobs, as far as they are still kept."""
        paths = [self._reports / f"{token}.json" for token in tokens]
        return [path.read_text(encoding="utf-8") for path in paths if path.is_file()]

    def _settle(self, job: Job, error: Exception, *, stopped: bool, lost: bool) -> None:
        now = self._clock()
        try:
            if stopped:
                give_back(self._ledger, job.id, owner=self._owner, now=now)
                log.info("job given back")
            elif not lost:
                settle_fault(
                    self._ledger, job, error, owner=self._owner, retry=self._retry, now=now
                )
        except LeaseLost:
            log.warning("job left to its new owner")


def _derived_series(report: str) -> str | None:
    uid = json.loads(report).get("derived_series_uid")
    return None if uid is None else str(uid)


def run_worker(settings: Settings, *, should_stop: ShouldStop) -> None:
    """Denoise until told to stop; the job in hand is given back.

    Raises:
        ModelUnavailable: The configured model cannot be loaded here.
        ConfigurationError: The ledger belongs to another version of this program.
        StorageError: The ledger cannot be opened.
    """
    denoise = ModelDenoise(settings)
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

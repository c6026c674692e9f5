"""Housekeeping: what has to happen because time has passed. APScheduler is the clock, no queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC

from apscheduler.schedulers.background import BackgroundScheduler
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.errors import NodeError
from dicom_node.ledger.engine import Ledger, open_ledger
from dicom_node.ledger.jobs import enqueue
from dicom_node.ledger.leases import is_dead
from dicom_node.ledger.operations import (
    busy_tokens,
    closed_tokens,
    release_lost_leases,
    wake_waiting,
)
from dicom_node.ledger.series import Series, complete_quiet_series, purge_old_series, skip
from dicom_node.logs import get_logger, short_hash, where
from dicom_node.rules import Denoise, Skip, decide
from dicom_node.settings import Settings
from dicom_node.store.inbox import Inbox
from dicom_node.store.outbox import Outbox

log = get_logger(__name__)

COMPLETION_SECONDS = 1.0
WAKE_SECONDS = 1.0
LEASES_SECONDS = 5.0
RETENTION_SECONDS = 600.0
"""How often each sweep runs; each asks the ledger one question when there is nothing to do."""

POLL_SECONDS = 0.2

SECONDS_PER_DAY = 86_400.0


class Housekeeping:
    """The sweeps; each may be run at any time, by any number of processes.

    Args:
        ledger: The ledger.
        inbox: Received images.
        outbox: Derived images.
        settings: Quiet time, default model and destinations, retries, retention.
    """

    def __init__(self, ledger: Ledger, inbox: Inbox, outbox: Outbox, settings: Settings) -> None:
        self._ledger, self._inbox, self._outbox = ledger, inbox, outbox
        self._settings = settings
        self._otherwise = Denoise(
            model=settings.model.name,
            strength=settings.model.strength,
            destinations=settings.destinations,
        )

    def complete_series(self, now: float) -> None:
        """Decide about every series that has been quiet long enough."""
        quiet = self._settings.complete_after_seconds
        for series in complete_quiet_series(self._ledger, quiet_seconds=quiet, now=now):
            try:
                self._decide(series, now)
            except Exception as error:  # one series must not hold up the others
                log.error(
                    "no decision", series=short_hash(series.series_uid), reason=_reason(error)
                )

    def release_leases(self, now: float) -> None:
        """Return the jobs of processes that died."""
        attempts = self._settings.retry.attempts
        for job in release_lost_leases(self._ledger, now=now, attempts=attempts, is_dead=is_dead):
            log.warning("job taken back from a process that died", job=job.id, state=job.state)

    def wake_jobs(self, now: float) -> None:
        """Return jobs to their queue whose pause is over."""
        for job in wake_waiting(self._ledger, now=now):
            log.info("job tried again", job=job.id, state=job.state, attempt=job.attempts + 1)

    def enforce_retention(self, now: float) -> None:
        """Delete what is old and owed to nobody. Unsent and failed work stays, whatever its age."""
        before = now - self._settings.retention.days * SECONDS_PER_DAY
        purged = purge_old_series(
            self._ledger, before=before, now=now, remove=self._inbox.remove_series
        )
        closed = closed_tokens(self._ledger, before=before) & self._outbox.tokens()
        for token in closed:
            self._outbox.remove(token)
        if purged or closed:
            log.info("retention", series=len(purged), results=len(closed))

    def sweep_leftovers(self) -> None:
        """Delete what workers that died had half written."""
        swept = self._outbox.sweep_leftovers(lambda: busy_tokens(self._ledger))
        if swept:
            log.info("leftovers deleted", folders=swept)

    def _decide(self, series: Series, now: float) -> None:
        decision = decide(list(self._headers(series)), otherwise=self._otherwise)
        known = {"series": short_hash(series.series_uid), "images": len(series.names)}
        if isinstance(decision, Skip):
            if skip(self._ledger, series, reason=decision.reason, now=now):
                log.info("series skipped", reason=decision.reason, **known)
            return
        job = enqueue(
            self._ledger,
            series,
            model=decision.model,
            strength=decision.strength,
            destinations=decision.destinations,
            now=now,
        )
        if job is not None:
            log.info("series complete", job=job.id, generation=job.generation, **known)

    def _headers(self, series: Series) -> Iterator[Dataset]:
        for name in series.names:
            try:
                yield dcmread(self._inbox.path(name), stop_before_pixels=True)
            except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError):
                log.warning("image cannot be read", series=short_hash(series.series_uid))


def run_housekeeping(settings: Settings, *, should_stop: Callable[[], bool]) -> None:
    """Run the sweeps until told to stop; the one under way is finished.

    Raises:
        ConfigurationError: The ledger belongs to another version of this program.
        StorageError: The ledger cannot be opened.
    """
    ledger = open_ledger(settings.database)
    inbox = Inbox(settings.inbox_folder, settings.quarantine_folder)
    sweeps = Housekeeping(ledger, inbox, Outbox(settings.outbox_folder), settings)
    clock = _clock(sweeps)
    try:
        sweeps.sweep_leftovers()
        clock.start()
        while not should_stop():
            time.sleep(POLL_SECONDS)
        clock.shutdown(wait=True)
    finally:
        ledger.close()


def _clock(sweeps: Housekeeping) -> BackgroundScheduler:
    clock = BackgroundScheduler(
        timezone=UTC,
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )
    for sweep, seconds in (
        (sweeps.complete_series, COMPLETION_SECONDS),
        (sweeps.wake_jobs, WAKE_SECONDS),
        (sweeps.release_leases, LEASES_SECONDS),
        (sweeps.enforce_retention, RETENTION_SECONDS),
    ):
        clock.add_job(_run_sweep, "interval", (sweep,), seconds=seconds)
    return clock


def _run_sweep(sweep: Callable[[float], None]) -> None:
    """One sweep; what goes wrong is told, and the next beat of the clock tries again."""
    try:
        sweep(time.time())
    except Exception as error:
        log.error("sweep failed", sweep=sweep.__name__, reason=_reason(error))


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, NodeError) else where(error)

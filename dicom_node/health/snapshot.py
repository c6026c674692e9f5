"""Snapshot of the node: everything that the health check and the status display need."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node import telemetry
from dicom_node.custody import Custody, custody_faults
from dicom_node.errors import NodeError
from dicom_node.health.refusals import TurnedAway, turned_away
from dicom_node.heartbeat import HeartbeatAges, newest_sweeps
from dicom_node.ledger.clock_repair import seconds_ahead_of_server
from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.measures import Waiting, waiting
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import LedgerStatus, list_jobs, status
from dicom_node.ledger.series import Series, list_series
from dicom_node.ledger.states import JobState, SeriesState
from dicom_node.settings import HealthSettings, Settings
from dicom_node.store.unknown import Unknown

MIN_ARRIVING_SLACK_SECONDS = 600.0
"""Margin, so that a series completed at its age limit is not reported."""

MAX_JOBS = 20
MAX_SKIPPED_SERIES = 10
"""Limits of the lists in a snapshot, which begin with the newest."""

CertificateDays = Callable[[], Mapping[str, float]]
"""Function that returns days left by file; a parameter, since this layer does not depend on TLS."""


@dataclass(frozen=True)
class Queues:
    """State of the queues in the ledger.

    Attributes:
        troubled: Jobs that failed or wait for another attempt, newest first.
        skipped: Series that were skipped, newest first.
    """

    counts: LedgerStatus
    waiting: Waiting
    troubled: tuple[Job, ...]
    skipped: tuple[Series, ...]


@dataclass(frozen=True)
class Sweep:
    """A sweep of the housekeeping: time since its last success, and its interval."""

    name: str
    silent_seconds: float
    interval_seconds: float


@dataclass(frozen=True)
class Snapshot:
    """State of the node at one time.

    Attributes:
        at: Seconds since 1970.
        queues: State of the queues; None when the ledger cannot be read (see ``fault``).
        fault: Why the ledger cannot be read; empty when it can.
        disk_free: Free bytes on the disk of the storage; None when it cannot be read.
        disk_total: Size of that disk in bytes.
        disk_reserve: Free bytes below which nothing is received.
        silent_seconds: Seconds since the last heartbeat of each part.
        sweeps: Sweeps of the housekeeping.
        limits: Ages above which waiting work is reported.
        arriving_limit_seconds: The same for an incomplete series.
        certificate_days: Days left, by file.
        custody: Messages about faults between ledger and storage.
        unknown_images: Number of images that are in no ledger.
        unknown_results: Number of results that are in no ledger.
        turned_away: Current run of refused senders; None for none.
        ahead_of_database_seconds: Lead of this host's clock over the database server's; None where
            the ledger has no server.
    """

    at: float
    queues: Queues | None
    fault: str
    disk_free: int | None
    disk_total: int | None
    disk_reserve: float
    silent_seconds: Mapping[str, float]
    sweeps: tuple[Sweep, ...]
    limits: HealthSettings
    arriving_limit_seconds: float
    certificate_days: Mapping[str, float] = field(default_factory=dict)
    custody: Sequence[str] = ()
    unknown_images: int = 0
    unknown_results: int = 0
    turned_away: TurnedAway | None = None
    ahead_of_database_seconds: float | None = None


def take_snapshot(
    settings: Settings,
    ledger: Ledger,
    *,
    certificate_days: CertificateDays = dict,
    ages: HeartbeatAges | None = None,
    now: float,
) -> Snapshot:
    """Take a snapshot of the node; faults become part of it instead of being raised.

    Args:
        settings: Settings of the node.
        ledger: The ledger, which is only read.
        certificate_days: Function that returns the days left of each certificate.
        ages: Heartbeat ages of a caller that takes snapshots repeatedly, so that a step of the
            clock hides no silence.
        now: Seconds since 1970.
    """
    silent, sweeps = _life(settings.metrics_folder, ages or HeartbeatAges(), now)
    latest = settings.completion.at_most_seconds + MIN_ARRIVING_SLACK_SECONDS
    queues, fault = _queues(ledger)
    unknown = Unknown(settings.unknown_folder)
    free, total = _disk(settings.storage)
    return Snapshot(
        at=now,
        queues=queues,
        fault=fault,
        disk_free=free,
        disk_total=total,
        disk_reserve=settings.retention.disk_reserve_bytes,
        silent_seconds=silent,
        sweeps=sweeps,
        limits=settings.health,
        arriving_limit_seconds=max(settings.health.arriving_seconds, latest),
        certificate_days=_certificate_days(certificate_days),
        custody=custody_faults(Custody(ledger, settings) if queues else None, settings),
        unknown_images=len(unknown.names()),
        unknown_results=len(unknown.tokens()),
        turned_away=turned_away(settings.metrics_folder, now),
        ahead_of_database_seconds=_ahead(ledger) if queues is not None else None,
    )


def _queues(ledger: Ledger) -> tuple[Queues | None, str]:
    try:
        troubled = list_jobs(ledger, states=(JobState.FAILED, JobState.RETRY_WAIT), limit=MAX_JOBS)
        skipped = list_series(ledger, states=(SeriesState.SKIPPED,), limit=MAX_SKIPPED_SERIES)
        return Queues(status(ledger), waiting(ledger), tuple(troubled), tuple(skipped)), ""
    except NodeError as error:
        return None, str(error)


def _disk(storage: Path) -> tuple[int | None, int | None]:
    try:
        usage = shutil.disk_usage(storage)
    except OSError:
        return None, None
    return usage.free, usage.total


def _life(
    folder: Path, ages: HeartbeatAges, now: float
) -> tuple[Mapping[str, float], tuple[Sweep, ...]]:
    """Return the silence of each part, and the sweeps."""
    try:
        parts, sweeps = telemetry.newest_beats(folder), newest_sweeps(folder)
    except OSError:
        return {}, ()
    beats = {f"sweep {name}": sweep.at for name, sweep in sweeps.items()} | parts
    silent = ages.seconds_since(beats, now)
    return {name: silent[name] for name in parts}, tuple(
        Sweep(name, silent[f"sweep {name}"], sweeps[name].interval_seconds)
        for name in sorted(sweeps)
    )


def _ahead(ledger: Ledger) -> float | None:
    try:
        return seconds_ahead_of_server(ledger, clock=time.time)
    except NodeError:
        return None


def _certificate_days(ask: CertificateDays) -> Mapping[str, float]:
    try:
        return ask()
    except NodeError:
        return {}

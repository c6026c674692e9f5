"""What the node looks like now: everything that is judged and shown, read once."""

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
from dicom_node.heartbeat import Silences, newest_sweeps
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
"""A series that completes at its latest moment is not late."""

SHOWN_JOBS = 20
SHOWN_SKIPPED = 10
"""How many jobs in trouble and skipped series are shown; the newest."""

CertificateDays = Callable[[], Mapping[str, float]]
"""Days that each certificate has left, by file; handed in, since this floor does not see TLS."""


@dataclass(frozen=True)
class Queues:
    """What the ledger says.

    Attributes:
        troubled: Jobs that failed or wait for another try, newest first.
        skipped: Series that were left alone, newest first.
    """

    counts: LedgerStatus
    waiting: Waiting
    troubled: tuple[Job, ...]
    skipped: tuple[Series, ...]


@dataclass(frozen=True)
class Sweep:
    """A sweep of the housekeeping: how long ago it ran and how often it is due."""

    name: str
    silent_seconds: float
    interval_seconds: float


@dataclass(frozen=True)
class Snapshot:
    """The node at one moment.

    Attributes:
        at: Seconds since 1970.
        queues: None when the ledger cannot be read; ``fault`` says why.
        disk_free: Bytes free under the storage; None when it cannot be read.
        disk_total: Bytes of that disk.
        disk_reserve: Bytes below which nothing is received.
        silent_seconds: Seconds since each part last said that it goes on.
        sweeps: Of the housekeeping.
        limits: Above which waiting work is late.
        arriving_limit_seconds: The same for a series that is not complete.
        certificate_days: Days left, by file.
        custody: What is wrong between ledger and storage, a sentence each.
        unknown_images: Images that no ledger knows.
        unknown_results: Results that no ledger knows.
        turned_away: Senders that found no place at the door; None when there are none.
        ahead_of_database_seconds: By how much this host's clock is ahead of the database server's;
            None where the ledger has no server.
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
    silences: Silences | None = None,
    now: float,
) -> Snapshot:
    """Look at the node; what cannot be looked at is said, not raised.

    Args:
        settings: The node's.
        ledger: The ledger; read only.
        certificate_days: Days that each certificate has left.
        silences: Of whoever looks again and again; then a clock that is set hides no silence.
        now: Seconds since 1970.
    """
    silent, sweeps = _life(settings.metrics_folder, silences or Silences(), now)
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
        troubled = list_jobs(
            ledger, states=(JobState.FAILED, JobState.RETRY_WAIT), limit=SHOWN_JOBS
        )
        skipped = list_series(ledger, states=(SeriesState.SKIPPED,), limit=SHOWN_SKIPPED)
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
    folder: Path, silences: Silences, now: float
) -> tuple[Mapping[str, float], tuple[Sweep, ...]]:
    """Silence of each part, and the sweeps."""
    try:
        parts, sweeps = telemetry.newest_beats(folder), newest_sweeps(folder)
    except OSError:
        return {}, ()
    beats = {f"sweep {name}": sweep.at for name, sweep in sweeps.items()} | parts
    silent = silences.look(beats, now)
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

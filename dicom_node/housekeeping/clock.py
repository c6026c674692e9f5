"""The clock of the sweeps. APScheduler is a clock only, never a queue: the ledger is the queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC

from apscheduler.schedulers.background import BackgroundScheduler

from dicom_node import telemetry
from dicom_node.audit import SILENT, Audit
from dicom_node.beats import SweepBeats
from dicom_node.custody import Custody, open_custody
from dicom_node.housekeeping.background import in_background
from dicom_node.housekeeping.completion import Completion
from dicom_node.housekeeping.notification import Notification
from dicom_node.housekeeping.queue import Queue
from dicom_node.housekeeping.retention import Retention
from dicom_node.logs import get_logger, reason_of
from dicom_node.rules import LiveRules
from dicom_node.settings import Settings
from dicom_node.store.inbox import Inbox
from dicom_node.store.outbox import Outbox

log = get_logger(__name__)

COMPLETION_SECONDS = 1.0
WAKE_SECONDS = 1.0
LEASES_SECONDS = 5.0
COMMITMENT_SECONDS = 5.0
DISK_SECONDS = 10.0
NOTIFY_SECONDS = 10.0
CLOCK_SECONDS = 60.0
RETENTION_SECONDS = 600.0
"""How often each sweep runs; each asks the ledger one question when there is nothing to do."""

POLL_SECONDS = 0.2

Sweep = Callable[[float], None]


def run_housekeeping(
    settings: Settings,
    *,
    should_stop: Callable[[], bool],
    should_reload: Callable[[], bool] = lambda: False,
    audit: Audit = SILENT,
) -> None:
    """Run the sweeps until told to stop; the one under way is finished.

    Args:
        settings: The configuration.
        should_stop: Asked five times a second.
        should_reload: Likewise; whether to read the rules again.
        audit: Told which rules are in force.

    Raises:
        ConfigurationError: The rules have mistakes, or the ledger belongs to another version of
            this program.
        StorageError: The ledger cannot be opened.
    """
    rules = LiveRules(settings)
    custody = open_custody(settings, should_stop)
    ledger = custody.ledger
    retention = _retention(custody, settings)
    beats = SweepBeats(telemetry.folder_of_host(settings.metrics_folder))
    clock = _clock(beats, *_sweeps(custody, retention, settings, rules))
    try:
        if not custody.wait(should_stop):
            return
        _run_sweep(retention.begin, beats)
        clock.start()
        log.info("housekeeping started", rules=len(rules.rules), sha256=rules.sha256)
        _tell_rules(audit, rules)
        while not should_stop():
            if should_reload():
                taken = rules.reload()
                _tell_rules(audit, rules, "" if taken else "mistakes in it, the old rules stay")
            time.sleep(POLL_SECONDS)
        clock.shutdown(wait=True)
    finally:
        ledger.close()


def _tell_rules(audit: Audit, rules: LiveRules, failure: str = "") -> None:
    if rules.path is not None:
        audit.rules(rules.path, sha256=rules.sha256, failure=failure)


def _retention(custody: Custody, settings: Settings) -> Retention:
    inbox = Inbox(settings.inbox_folder, settings.quarantine_folder)
    return Retention(custody, inbox, Outbox(settings.outbox_folder), settings)


def _sweeps(
    custody: Custody, retention: Retention, settings: Settings, rules: LiveRules
) -> tuple[tuple[Sweep, float], ...]:
    ledger = custody.ledger
    inbox = Inbox(settings.inbox_folder, settings.quarantine_folder)
    completion, queue = Completion(ledger, inbox, settings, rules), Queue(ledger, settings)
    return (
        (completion.complete_series, COMPLETION_SECONDS),
        (queue.wake_jobs, WAKE_SECONDS),
        (queue.release_leases, LEASES_SECONDS),
        (queue.end_commitments, COMMITMENT_SECONDS),
        (queue.correct_clock, CLOCK_SECONDS),
        (retention.relieve_disk, DISK_SECONDS),
        (in_background(Notification(ledger, settings).notify), NOTIFY_SECONDS),
        (retention.enforce_retention, RETENTION_SECONDS),
    )


def _clock(beats: SweepBeats, *sweeps: tuple[Sweep, float]) -> BackgroundScheduler:
    _begin(beats, {sweep.__name__: seconds for sweep, seconds in sweeps})
    clock = BackgroundScheduler(
        timezone=UTC,
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )
    for sweep, seconds in sweeps:
        clock.add_job(_run_sweep, "interval", (sweep, beats), seconds=seconds)
    return clock


def _begin(beats: SweepBeats, sweeps: Mapping[str, float]) -> None:
    try:
        beats.begin(sweeps)
    except OSError as error:  # a full disk must not keep the housekeeping from making room
        log.warning("sweeps do not beat", reason=error.strerror)


def _run_sweep(sweep: Sweep, beats: SweepBeats) -> None:
    """One sweep; what goes wrong is told, and the next beat of the clock tries again.

    One that fails does not beat: the health check misses it.
    """
    try:
        sweep(time.time())
    except Exception as error:
        log.error("sweep failed", sweep=sweep.__name__, reason=reason_of(error))
    else:
        with suppress(OSError):
            beats.beat(sweep.__name__)

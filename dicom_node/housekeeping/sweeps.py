"""The housekeeping process: its sweeps with their intervals, and its main loop."""

from __future__ import annotations

import time
from collections.abc import Callable

from dicom_node import telemetry
from dicom_node.audit import NO_AUDIT, Audit
from dicom_node.crashes import CrashRecord
from dicom_node.custody import Custody, open_custody
from dicom_node.heartbeat import SweepBeats
from dicom_node.housekeeping.alarm import alarm
from dicom_node.housekeeping.background import in_background
from dicom_node.housekeeping.clock_watch import ClockWatch
from dicom_node.housekeeping.completion import Completion, note_crashes
from dicom_node.housekeeping.notification import Notification
from dicom_node.housekeeping.queue import Queue
from dicom_node.housekeeping.retention import Retention
from dicom_node.housekeeping.timer import ScheduledSweep, SweepTimer
from dicom_node.ledger.leases import owner_name
from dicom_node.logs import get_logger
from dicom_node.rules import ReloadableRules
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
ALARM_SECONDS = 30.0
CLOCK_SECONDS = 60.0
RETENTION_SECONDS = 600.0
"""Intervals of the sweeps; an idle sweep costs one query of the ledger."""

POLL_SECONDS = 0.2


def run_housekeeping(
    settings: Settings,
    *,
    should_stop: Callable[[], bool],
    should_reload: Callable[[], bool] = lambda: False,
    audit: Audit = NO_AUDIT,
) -> None:
    """Run the sweeps until this process is to stop; a sweep in progress is completed.

    Args:
        settings: The configuration.
        should_stop: Whether to stop; polled five times a second.
        should_reload: Whether to reload the rules; polled likewise.
        audit: Audit trail, which records the rules in force.

    Raises:
        ConfigurationError: The rules have errors, or the ledger belongs to another version of this
            program.
        StorageError: The ledger cannot be opened.
    """
    rules = ReloadableRules(settings)
    custody = open_custody(settings, should_stop)
    queue, retention = Queue(custody.ledger, settings), _retention(custody, settings)
    watch = ClockWatch(queue.follow_clock)
    record = CrashRecord(settings.crashes_folder, owner_name())
    timer = SweepTimer(
        _sweeps(custody, queue, retention, settings, rules, record),
        watch,
        SweepBeats(telemetry.folder_of_host(settings.metrics_folder)),
    )
    try:
        notify = in_background(alarm(custody.ledger, settings).notify_problems)
        if not custody.wait(should_stop, meanwhile=lambda: notify(watch.steady())):
            return
        timer.run(ScheduledSweep(retention.begin, 0.0))
        note_crashes(custody.ledger, settings)
        with record:
            _run_timer(timer, rules, audit, should_stop=should_stop, should_reload=should_reload)
    finally:
        custody.ledger.close()


def _run_timer(
    timer: SweepTimer,
    rules: ReloadableRules,
    audit: Audit,
    *,
    should_stop: Callable[[], bool],
    should_reload: Callable[[], bool],
) -> None:
    timer.start()
    log.info("housekeeping started", rules=len(rules.rules), sha256=rules.sha256)
    _audit_rules(audit, rules)
    while not should_stop():
        timer.follow_clock()
        if should_reload():
            accepted = rules.reload()
            _audit_rules(audit, rules, "" if accepted else "errors in it, the old rules stay")
        time.sleep(POLL_SECONDS)
    timer.stop()


def _audit_rules(audit: Audit, rules: ReloadableRules, failure: str = "") -> None:
    if rules.path is not None:
        audit.rules(rules.path, sha256=rules.sha256, failure=failure)


def _retention(custody: Custody, settings: Settings) -> Retention:
    inbox = Inbox(settings.inbox_folder, settings.quarantine_folder)
    return Retention(custody, inbox, Outbox(settings.outbox_folder), settings)


def _sweeps(
    custody: Custody,
    queue: Queue,
    retention: Retention,
    settings: Settings,
    rules: ReloadableRules,
    record: CrashRecord,
) -> tuple[ScheduledSweep, ...]:
    ledger = custody.ledger
    inbox = Inbox(settings.inbox_folder, settings.quarantine_folder)
    notify = in_background(Notification(ledger, settings).notify)
    notify_problems = in_background(alarm(ledger, settings).notify_problems)
    completion = Completion(ledger, inbox, settings, rules, record)
    return (
        ScheduledSweep(completion.complete_series, COMPLETION_SECONDS),
        ScheduledSweep(queue.wake_jobs, WAKE_SECONDS),
        ScheduledSweep(queue.release_leases, LEASES_SECONDS),
        ScheduledSweep(queue.end_commitments, COMMITMENT_SECONDS),
        ScheduledSweep(queue.correct_clock, CLOCK_SECONDS),
        ScheduledSweep(retention.relieve_disk, DISK_SECONDS, ClockWatch.steady),
        ScheduledSweep(notify, NOTIFY_SECONDS, ClockWatch.steady),
        ScheduledSweep(notify_problems, ALARM_SECONDS, ClockWatch.steady),
        ScheduledSweep(retention.enforce_retention, RETENTION_SECONDS, ClockWatch.unhurried),
    )

"""The sweeps of the housekeeping: which there are, how often each runs, by which time."""

from __future__ import annotations

import time
from collections.abc import Callable

from dicom_node import telemetry
from dicom_node.audit import SILENT, Audit
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
from dicom_node.housekeeping.timer import Round, Rounds
from dicom_node.ledger.leases import owner_name
from dicom_node.logs import get_logger
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
ALARM_SECONDS = 30.0
CLOCK_SECONDS = 60.0
RETENTION_SECONDS = 600.0
"""How often each sweep runs; each asks the ledger one question when there is nothing to do."""

POLL_SECONDS = 0.2


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
    queue, retention = Queue(ledger, settings), _retention(custody, settings)
    watch = ClockWatch(queue.follow_clock)
    beats = SweepBeats(telemetry.folder_of_host(settings.metrics_folder))
    record = CrashRecord(settings.crashes_folder, owner_name())
    rounds = Rounds(_rounds(custody, queue, retention, settings, rules, record), watch, beats)
    try:
        tell = in_background(alarm(ledger, settings).tell_troubles)
        if not custody.wait(should_stop, meanwhile=lambda: tell(watch.steady())):
            return
        rounds.run(Round(retention.begin, 0.0))
        note_crashes(ledger, settings)
        with record:
            rounds.start()
            log.info("housekeeping started", rules=len(rules.rules), sha256=rules.sha256)
            _tell_rules(audit, rules)
            while not should_stop():
                rounds.follow_clock()
                if should_reload():
                    taken = rules.reload()
                    _tell_rules(audit, rules, "" if taken else "mistakes in it, the old rules stay")
                time.sleep(POLL_SECONDS)
            rounds.stop()
    finally:
        ledger.close()


def _tell_rules(audit: Audit, rules: LiveRules, failure: str = "") -> None:
    if rules.path is not None:
        audit.rules(rules.path, sha256=rules.sha256, failure=failure)


def _retention(custody: Custody, settings: Settings) -> Retention:
    inbox = Inbox(settings.inbox_folder, settings.quarantine_folder)
    return Retention(custody, inbox, Outbox(settings.outbox_folder), settings)


def _rounds(
    custody: Custody,
    queue: Queue,
    retention: Retention,
    settings: Settings,
    rules: LiveRules,
    record: CrashRecord,
) -> tuple[Round, ...]:
    ledger = custody.ledger
    inbox = Inbox(settings.inbox_folder, settings.quarantine_folder)
    notify = in_background(Notification(ledger, settings).notify)
    tell_troubles = in_background(alarm(ledger, settings).tell_troubles)
    completion = Completion(ledger, inbox, settings, rules, record)
    return (
        Round(completion.complete_series, COMPLETION_SECONDS),
        Round(queue.wake_jobs, WAKE_SECONDS),
        Round(queue.release_leases, LEASES_SECONDS),
        Round(queue.end_commitments, COMMITMENT_SECONDS),
        Round(queue.correct_clock, CLOCK_SECONDS),
        Round(retention.relieve_disk, DISK_SECONDS, ClockWatch.steady),
        Round(notify, NOTIFY_SECONDS, ClockWatch.steady),
        Round(tell_troubles, ALARM_SECONDS, ClockWatch.steady),
        Round(retention.enforce_retention, RETENTION_SECONDS, ClockWatch.unhurried),
    )

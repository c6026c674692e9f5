"""Observation of a part of the node: metrics, heartbeats, audit messages, certificate expiry."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from dicom_node import telemetry
from dicom_node.audit import Audit, open_audit
from dicom_node.heartbeat import SweepBeats
from dicom_node.logs import get_logger
from dicom_node.settings import Settings

log = get_logger(__name__)

ShouldStop = Callable[[], bool]


@contextmanager
def observed(command: str, settings: Settings) -> Iterator[Audit]:
    """Open metrics and audit trail for a part, and record its start and stop in the trail.

    Args:
        command: Name of the part.
        settings: The configuration of both.

    Yields:
        The audit trail.

    Raises:
        ConfigurationError: The audit trail cannot be opened as configured.
        StorageError: The key of its pseudonyms cannot be used.
    """
    audit = open_audit(settings)
    error = telemetry.open_when_possible(settings.metrics_folder, process=command)
    if error is not None:
        log.warning("nothing is counted yet", reason=error.strerror)
    audit.application(started=True)
    try:
        yield audit
    finally:
        audit.application(started=False)
        audit.close()
        telemetry.close_telemetry()


def with_heartbeat(should_stop: ShouldStop) -> ShouldStop:
    """Wrap should_stop so that each call records a heartbeat."""

    def asked() -> bool:
        telemetry.beat()
        return should_stop()

    return asked


def forget_counts(settings: Settings) -> None:
    """Reset the counters, at the start of a node."""
    try:
        telemetry.clear_telemetry(settings.metrics_folder)
    except OSError as error:
        log.warning("old counts stay", reason=error.strerror)


def forget_sweeps(settings: Settings) -> None:
    """Forget the sweeps of an earlier run, so that none counts as overdue."""
    try:
        SweepBeats(telemetry.folder_of_host(settings.metrics_folder)).forget()
    except OSError as error:
        log.warning("sweeps of an earlier run stay", reason=error.strerror)


def certificate_days(settings: Settings) -> Mapping[str, float]:
    """Return the days until the first certificate in each file expires, by file name.

    Raises:
        ConfigurationError: A file cannot be read.
    """
    if settings.tls is None:
        return {}
    from dicom_node.certificates import read_certificates

    now, days = time.time(), dict[str, float]()
    for found in read_certificates(settings.tls):
        name, left = found.path.name, found.days_left(now)
        days[name] = min(left, days.get(name, left))
    return days

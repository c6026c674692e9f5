"""Counters and histograms of each process, kept in files that the status server adds up.

Nothing is counted before :func:`open_telemetry`. Afterwards each count is a store into a mapped
file, in the format of prometheus_client's multi-process mode. The file survives a killed process,
and its successor counts on from there. Heartbeats are kept beside the counts.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dicom_node.telemetry_files import (
    RepeatedOpening,
    close_values,
    is_readable,
    take_slot,
    values_kept_in,
)
from man_core import Check, Verdict

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

PREFIX: Final = "dicom_node_"

COUNTERS: Final[dict[str, tuple[str, ...]]] = {
    "images_received": ("Images that came in and are safely kept, by outcome.", "outcome"),
    "received_bytes": ("Bytes of the images that came in.",),
    "images_refused": (
        "Images answered with another status than success, by DIMSE status.",
        "status",
    ),
    "associations": ("Associations of peers, by outcome.", "outcome"),
    "associations_refused": (
        "Associations and connections that were refused, by reason.",
        "reason",
    ),
    "images_sent": (
        "Images that a destination answered for, by outcome.",
        "destination",
        "outcome",
    ),
    "sent_bytes": ("Bytes of the images that a destination has taken.", "destination"),
    "audit_lost": ("Audit messages that could not be handed on.",),
    "guard_verdicts": (
        "Findings of the guard on denoised series, by check and verdict.",
        "check",
        "verdict",
    ),
}
"""Name without prefix and ``_total``, to help text and label names."""

STAGE_HELP: Final = "Seconds that a job spent in a stage."
STAGE_BOUNDS_SECONDS: Final = (
    0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
)  # fmt: skip
"""Upper bounds of the histogram's buckets."""

RECEIVED_OUTCOMES = ("stored", "duplicate", "quarantined")
ASSOCIATION_OUTCOMES = ("accepted", "rejected", "aborted", "tls_failed", "given_up")
REFUSAL_REASONS = ("full", "peer", "address", "connections", "disk", "title", "host", "protocol")
STAGES = ("denoise", "send")

MIN_BEAT_SECONDS: Final = 1.0
"""Heartbeats closer together than this are not written."""


def open_telemetry(folder: Path, *, process: str) -> None:
    """Begin to count in this process; a process that forks calls it in each child.

    Args:
        folder: Folder of all processes' files, in which each host has a subfolder.
        process: Name of this part of the node.

    Raises:
        OSError: The folder cannot be written.
    """
    close_telemetry()
    _current.append(_Counts(folder_of_host(folder), process))


def open_when_possible(folder: Path, *, process: str) -> OSError | None:
    """Begin to count in this process, at a later heartbeat where the folder cannot be written yet.

    A full disk must not keep a part from making room, nor from being seen alive afterwards.

    Args:
        folder: See :func:`open_telemetry`.
        process: Name of this part of the node.

    Returns:
        The error for which it has to be tried again; None once counting has begun.
    """
    close_telemetry()

    def begin() -> None:
        _current.append(_Counts(folder_of_host(folder), process))

    opening = RepeatedOpening(begin)
    _openings.append(opening)
    return opening.attempt()


def close_telemetry() -> None:
    """Stop counting, and leave the files to the next process of this name."""
    _openings.clear()
    while _current:
        _current.pop().close()


def clear_telemetry(folder: Path) -> None:
    """Reset all counts of this host to zero, before any process of a starting node counts.

    Raises:
        OSError: A file cannot be removed.
    """
    for path in folder_of_host(folder).glob("*.db"):
        path.unlink(missing_ok=True)


def beat() -> None:
    """Record a heartbeat of this process; may be called often."""
    for opening in _openings:
        opening.attempt()
    for counts in _current:
        counts.beat()


def newest_beats(folder: Path) -> dict[str, float]:
    """Return the last heartbeat of each part on any host, in seconds since 1970."""
    beats: dict[str, float] = {}
    for path in folder.glob("*/*.lock"):
        process = path.stem.rpartition("-")[0]
        beats[process] = max(beats.get(process, 0.0), path.stat().st_mtime)
    return beats


def folder_of_host(folder: Path) -> Path:
    """Return the subfolder of this host: hosts that share a storage are scraped one by one."""
    return folder / socket.gethostname()


def collect_into(registry: CollectorRegistry, folder: Path) -> None:
    """Register what all processes of this host have counted until now."""
    from prometheus_client.multiprocess import MultiProcessCollector

    own = folder_of_host(folder)
    readable = [str(path) for path in own.glob("*.db") if is_readable(path)]
    merged = MultiProcessCollector.merge(readable)  # type: ignore[no-untyped-call]
    registry.register(_Collected(merged))


def image_received(outcome: str, size: int) -> None:
    """Count an image that was received and is stored.

    Args:
        outcome: One of `RECEIVED_OUTCOMES`.
        size: Size of its data set in bytes.
    """
    for counts in _current:
        counts.add("images_received", outcome=outcome)
        counts.add("received_bytes", size)


def image_refused(status: int) -> None:
    """Count an image that was answered with another DIMSE status than success."""
    for counts in _current:
        counts.add("images_refused", status=f"0x{status:04X}")


def association(outcome: str) -> None:
    """Count an association of a peer, by one of `ASSOCIATION_OUTCOMES`."""
    for counts in _current:
        counts.add("associations", outcome=outcome)


def association_refused(reason: str) -> None:
    """Count an association or connection that was refused, by one of `REFUSAL_REASONS`."""
    for counts in _current:
        counts.add("associations_refused", reason=reason)


def image_sent(destination: str, ok: bool, size: int) -> None:
    """Count an image that was sent.

    Args:
        destination: Name of the peer in the configuration.
        ok: Whether the peer has accepted it.
        size: Size of its file in bytes.
    """
    for counts in _current:
        counts.add("images_sent", destination=destination, outcome="stored" if ok else "failed")
        if ok:
            counts.add("sent_bytes", size, destination=destination)


def stage_seconds(stage: str, seconds: float) -> None:
    """Observe the time that one job spent in one of the `STAGES`."""
    for counts in _current:
        counts.observe(stage, seconds)


def audit_lost(count: int) -> None:
    """Count audit messages that reached neither file nor collector."""
    for counts in _current:
        counts.add("audit_lost", count)


def guard_verdict(check: str, verdict: str) -> None:
    """Count a finding of the guard on one series."""
    for counts in _current:
        counts.add("guard_verdicts", check=check, verdict=verdict)


class _Counts:
    """The metrics of this process, in files that only it writes while it holds their slot."""

    def __init__(self, folder: Path, process: str) -> None:
        from prometheus_client import Counter, Histogram

        folder.mkdir(parents=True, exist_ok=True)
        self._slot, name = take_slot(folder, process)
        self._last_beat = -math.inf
        self.beat()
        try:
            with values_kept_in(folder, name):
                self._counters = {
                    counter: Counter(PREFIX + counter, text, labels, registry=None)
                    for counter, (text, *labels) in COUNTERS.items()
                }
                self._stages = Histogram(
                    f"{PREFIX}stage_seconds",
                    STAGE_HELP,
                    ["stage"],
                    buckets=STAGE_BOUNDS_SECONDS,
                    registry=None,
                )
                self._begin_at_zero()
        except BaseException:
            self._slot.close()
            raise

    def close(self) -> None:
        """Close the files and release the slot."""
        close_values()
        self._slot.close()

    def beat(self) -> None:
        """Record a heartbeat as the time of the slot's last change."""
        now = time.monotonic()
        if now > self._last_beat + MIN_BEAT_SECONDS:
            self._last_beat = now
            os.utime(self._slot.fileno())

    def add(self, counter: str, amount: float = 1.0, /, **labels: str) -> None:
        """Increment a counter."""
        metric = self._counters[counter]
        (metric.labels(**labels) if labels else metric).inc(amount)

    def observe(self, stage: str, seconds: float) -> None:
        """Enter one job into the histogram."""
        self._stages.labels(stage=stage).observe(seconds)

    def _begin_at_zero(self) -> None:
        """Create the known time series: no rate shows an event that creates its series."""
        for outcome in RECEIVED_OUTCOMES:
            self.add("images_received", 0.0, outcome=outcome)
        for outcome in ASSOCIATION_OUTCOMES:
            self.add("associations", 0.0, outcome=outcome)
        for reason in REFUSAL_REASONS:
            self.add("associations_refused", 0.0, reason=reason)
        for stage in STAGES:
            self._stages.labels(stage=stage)
        for check in Check:
            for verdict in Verdict:
                self.add("guard_verdicts", 0.0, check=check, verdict=verdict)


class _Collected:
    """Metrics as a collector that a registry accepts."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = tuple(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


_current: list[_Counts] = []
_openings: list[RepeatedOpening] = []

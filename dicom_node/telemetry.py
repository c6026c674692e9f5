"""Telemetry: what each process counts, kept in files that the status server adds up.

Nothing is counted until :func:`open_telemetry`. Afterwards each count is a store into a mapped
file, in the format of prometheus_client's multi-process mode. It survives a killed process, and
the process that takes its place counts on. The same files tell whether a process goes on.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from dicom_node.telemetry_files import is_sound, open_counts, take_slot
from man_core import Check, Verdict

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric
    from prometheus_client.mmap_dict import MmapedDict

COUNTERS = {
    "images_received": "Images that came in and are safely kept, by outcome.",
    "received_bytes": "Bytes of the images that came in.",
    "images_refused": "Images answered with another status than success, by DIMSE status.",
    "associations": "Associations of peers, by outcome.",
    "associations_refused": "Associations and connections that were refused, by reason.",
    "images_sent": "Images that a destination answered for, by outcome.",
    "sent_bytes": "Bytes of the images that a destination has taken.",
    "audit_lost": "Audit messages that could not be handed on.",
    "guard_verdicts": "Findings of the guard on denoised series, by check and verdict.",
}
"""Names, without prefix and ``_total``, and what they count."""

STAGE_HELP = "Seconds that a job spent in a stage."
STAGE_BOUNDS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Upper bounds of the histogram of what a stage takes, in seconds."""

RECEIVED_OUTCOMES = ("stored", "duplicate", "quarantined")
ASSOCIATION_OUTCOMES = ("accepted", "rejected", "aborted", "tls_failed", "given_up")
REFUSAL_REASONS = ("full", "peer", "address", "connections", "disk", "title", "host", "protocol")
STAGES = ("denoise", "send")

PREFIX = "dicom_node_"
BEAT_SECONDS = 1.0
"""A beat so soon after the last is not written down."""


def open_telemetry(folder: Path, *, process: str) -> None:
    """Count from now on, in this process. A process that forks calls it in each child.

    Args:
        folder: Where the files of all processes lie; each host has a folder of its own in it.
        process: Name of this part of the node.

    Raises:
        OSError: The folder cannot be written.
    """
    close_telemetry()
    _current.append(_Counts(folder_of_host(folder), process))


def close_telemetry() -> None:
    """Count no more, and leave the file to the next process of this name."""
    while _current:
        _current.pop().close()


def clear_telemetry(folder: Path) -> None:
    """Begin at zero; for the start of a node, before any of its processes counts.

    Raises:
        OSError: A file cannot be removed.
    """
    for path in folder_of_host(folder).glob("*.db"):
        path.unlink(missing_ok=True)


def beat() -> None:
    """Say that this process goes on; it may be called often."""
    for counts in _current:
        counts.beat()


def newest_beats(folder: Path) -> dict[str, float]:
    """When the processes of each part last went on, in seconds since 1970; on all hosts."""
    beats: dict[str, float] = {}
    for path in folder.glob("*/*.lock"):
        process = path.stem.rpartition("-")[0]
        beats[process] = max(beats.get(process, 0.0), path.stat().st_mtime)
    return beats


def folder_of_host(folder: Path) -> Path:
    """Where the processes of this host count: hosts that share a storage are read one by one."""
    return folder / socket.gethostname()


def collect_into(registry: CollectorRegistry, folder: Path) -> None:
    """Let a registry tell what all processes of this host counted, once, as it is now."""
    from prometheus_client.multiprocess import MultiProcessCollector

    own = folder_of_host(folder)
    sound = [str(path) for path in own.glob("*.db") if is_sound(path)]
    counted = MultiProcessCollector.merge(sound)  # type: ignore[no-untyped-call]
    registry.register(_Counted(counted))


def image_received(outcome: str, size: int) -> None:
    """Count an image that came in and is kept.

    Args:
        outcome: One of `RECEIVED_OUTCOMES`.
        size: Bytes of its data set.
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
        ok: Whether the peer has it now.
        size: Bytes of its file.
    """
    for counts in _current:
        counts.add("images_sent", destination=destination, outcome="stored" if ok else "failed")
        if ok:
            counts.add("sent_bytes", size, destination=destination)


def stage_seconds(stage: str, seconds: float) -> None:
    """Note how long one job spent in one of the `STAGES`."""
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
    """The counters of this process, in two files that only it writes."""

    def __init__(self, folder: Path, process: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._slot, name = take_slot(folder, process)
        self._beaten = -math.inf
        self.beat()
        self._lock = Lock()
        try:
            self._counters = open_counts(folder / f"counter_{name}.db")
            self._histograms = open_counts(folder / f"histogram_{name}.db")
            self._begin_at_zero()
        except BaseException:
            self._slot.close()
            raise

    def close(self) -> None:
        """Let go of the files."""
        with self._lock:
            self._counters.close()  # type: ignore[no-untyped-call]
            self._histograms.close()  # type: ignore[no-untyped-call]
        self._slot.close()

    def beat(self) -> None:
        """Leave the time as that of the slot's last change."""
        now = time.monotonic()
        if now > self._beaten + BEAT_SECONDS:
            self._beaten = now
            os.utime(self._slot.fileno())

    def add(self, counter: str, amount: float = 1.0, /, **labels: str) -> None:
        """Count on."""
        name = PREFIX + counter
        self._add(self._counters, name, f"{name}_total", labels, COUNTERS[counter], amount)

    def observe(self, stage: str, seconds: float, *, times: float = 1.0) -> None:
        """Note one job in its bucket; the buckets are added up when they are read."""
        name, labels = PREFIX + "stage_seconds", {"stage": stage}
        bound = next((f"{bound}" for bound in STAGE_BOUNDS if seconds <= bound), "+Inf")
        bucket = {**labels, "le": bound}
        self._add(self._histograms, name, f"{name}_bucket", bucket, STAGE_HELP, times)
        summed = times * seconds if times else 0.0  # infinity times nothing is no number
        self._add(self._histograms, name, f"{name}_sum", labels, STAGE_HELP, summed)

    def _add(
        self,
        file: MmapedDict,
        metric: str,
        name: str,
        labels: Mapping[str, str],
        text: str,
        amount: float,
    ) -> None:
        key = _key(metric, name, tuple(labels.items()), text)
        with self._lock:
            value, _ = file.read_value(key)  # type: ignore[no-untyped-call]
            file.write_value(key, value + amount, 0.0)  # type: ignore[no-untyped-call]

    def _begin_at_zero(self) -> None:
        """A counter that is not there until its first event hides that event from rates."""
        for outcome in RECEIVED_OUTCOMES:
            self.add("images_received", 0.0, outcome=outcome)
        for outcome in ASSOCIATION_OUTCOMES:
            self.add("associations", 0.0, outcome=outcome)
        for reason in REFUSAL_REASONS:
            self.add("associations_refused", 0.0, reason=reason)
        for stage in STAGES:
            for bound in (*STAGE_BOUNDS, float("inf")):
                self.observe(stage, bound, times=0.0)
        for check in Check:
            for verdict in Verdict:
                self.add("guard_verdicts", 0.0, check=check, verdict=verdict)
        self.add("received_bytes", 0.0)
        self.add("audit_lost", 0.0)


class _Counted:
    """What was counted, in the form that a registry asks for."""

    def __init__(self, counted: Iterable[Metric]) -> None:
        self._counted = tuple(counted)

    def collect(self) -> Iterable[Metric]:
        return self._counted


_current: list[_Counts] = []


@cache
def _key(metric: str, name: str, labels: tuple[tuple[str, str], ...], text: str) -> str:
    from prometheus_client.mmap_dict import mmap_key

    return str(
        mmap_key(metric, name, [key for key, _ in labels], [value for _, value in labels], text)
    )

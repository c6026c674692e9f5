"""Problems of the node itself: ledger, storage, disk, parts, sweeps, clock, certificates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from dicom_node.health.ages import age_in_words
from dicom_node.health.snapshot import Snapshot
from dicom_node.store.disk import size_in_words

PARTS = {
    "receive": "receiver",
    "work": "worker",
    "deliver": "sender",
    "serve": "housekeeping",
}
"""Command and name of each part. A worker is silent while it loads a model, and between two steps
on a slow machine."""

MIN_PLAUSIBLE_TIME = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""In seconds since 1970; this program is younger, so an earlier clock is wrong."""

MAX_CLOCK_DIFFERENCE_SECONDS = 60.0
"""Tolerated difference between the clocks of hosts that share a ledger."""


def ledger(snapshot: Snapshot) -> Iterator[str]:
    """Report a ledger that cannot be read."""
    if snapshot.queues is None:
        reason = (snapshot.fault or "").removeprefix("The ledger cannot be used: ")
        yield f"The ledger cannot be read: {reason}"


def custody(snapshot: Snapshot) -> Iterator[str]:
    """Report a ledger and a storage that do not belong together."""
    yield from snapshot.custody


def unknown(snapshot: Snapshot) -> Iterator[str]:
    """Report received images that are in no ledger."""
    if snapshot.unknown_images:
        yield (
            f"{snapshot.unknown_images} images are in no ledger and will be deleted after"
            " `retention.days`: see `dicom-node unknown list`, then take them in again or discard"
            " them."
        )


def disk(snapshot: Snapshot) -> Iterator[str]:
    """Report a storage that cannot be read or is full."""
    if snapshot.disk_free is None:
        yield "The storage folder cannot be read."
    elif snapshot.disk_free < snapshot.disk_reserve:
        yield (
            f"Only {size_in_words(snapshot.disk_free)} are free, less than the reserve of"
            f" {size_in_words(snapshot.disk_reserve)}: nothing is received; free some space."
        )


def parts(snapshot: Snapshot) -> Iterator[str]:
    """Report parts that do not run."""
    limits = snapshot.limits
    allowed = {"receive": limits.receiver_seconds, "work": limits.worker_seconds}
    for part, name in PARTS.items():
        silent = snapshot.silent_seconds.get(part)
        if silent is None:
            yield f"The {name} has not been started: run `dicom-node {part}`."
        elif silent > allowed.get(part, limits.part_seconds):
            yield f"The {name} has sent no heartbeat for {silent:.0f} s: see its log."


def sweeps(snapshot: Snapshot) -> Iterator[str]:
    """Report sweeps of the housekeeping that are late."""
    for sweep in snapshot.sweeps:
        if sweep.silent_seconds > sweep.interval_seconds + snapshot.limits.sweep_seconds:
            yield (
                f"The housekeeping's sweep {sweep.name} ran {age_in_words(sweep.silent_seconds)}"
                f" ago and is due every {sweep.interval_seconds:.0f} s: see the log of"
                " `dicom-node serve`."
            )


def clock(snapshot: Snapshot) -> Iterator[str]:
    """Report a wrong clock of this machine."""
    if snapshot.at < MIN_PLAUSIBLE_TIME:
        shown = datetime.fromtimestamp(snapshot.at, UTC).isoformat(timespec="minutes")
        yield f"This machine's clock says {shown}, which is wrong: check its time service."
    ahead = snapshot.ahead_of_database_seconds
    if ahead is not None and abs(ahead) > MAX_CLOCK_DIFFERENCE_SECONDS:
        word = "ahead of" if ahead > 0 else "behind"
        yield (
            f"This machine's clock is {age_in_words(abs(ahead))} {word} that of the database"
            " server: check the time service of both."
        )


def door(snapshot: Snapshot) -> Iterator[str]:
    """Report senders that are turned away for longer than a short peak."""
    run = snapshot.turned_away
    if run is not None and run.seconds > snapshot.limits.door_seconds:
        yield (
            f"Senders have been turned away for {age_in_words(run.seconds)},"
            f" {run.per_minute:.1f} a minute, because all associations are in use: the log of the"
            " receiver says by whom; raise `listen.max_associations` if they are needed."
        )


def certificates(snapshot: Snapshot) -> Iterator[str]:
    """Report expired certificates."""
    for name, days in snapshot.certificate_days.items():
        if days <= 0:
            yield f"The certificate {name} has expired: renew it and restart the node."

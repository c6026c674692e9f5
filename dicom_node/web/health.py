"""Whether the node does its work, and if not, why; a pure function of what it looks like."""

from __future__ import annotations

from collections.abc import Iterator

from dicom_node.web.snapshot import GIB, Snapshot

BEAT_LIMITS = {"receive": 60.0, "work": 900.0, "deliver": 300.0}
"""Seconds after which a part that has not said that it goes on counts as stopped. A worker is
silent while a model is loaded, and between two steps of a large model on a slow machine."""

PARTS = {"receive": "receiver", "work": "worker", "deliver": "sender"}


def reasons_against(snapshot: Snapshot) -> list[str]:
    """Why the node is not healthy, a sentence each; empty when it is."""
    return [
        *_ledger(snapshot),
        *snapshot.custody,
        *_unknown(snapshot),
        *_disk(snapshot),
        *_parts(snapshot),
    ]


def _ledger(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.queues is None:
        yield f"The ledger cannot be read: {snapshot.fault}"


def _unknown(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.unknown_images:
        yield (
            f"{snapshot.unknown_images} images are in no ledger and will be deleted after"
            " `retention.days`: see `dicom-node unknown list`, then take them in again or discard"
            " them."
        )


def _disk(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.disk_free is None:
        yield "The storage folder cannot be read."
    elif snapshot.disk_free < snapshot.disk_reserve:
        yield (
            f"Only {snapshot.disk_free / GIB:.1f} GiB are free, less than the reserve of"
            f" {snapshot.disk_reserve / GIB:.1f} GiB: nothing is received; make room."
        )


def _parts(snapshot: Snapshot) -> Iterator[str]:
    for part, limit in BEAT_LIMITS.items():
        beat = snapshot.beats.get(part)
        if beat is None:
            yield f"The {PARTS[part]} has not been started: run `dicom-node {part}`."
        elif snapshot.at - beat > limit:
            yield (
                f"The {PARTS[part]} has not been heard of for {snapshot.at - beat:.0f} s: see its"
                " log."
            )

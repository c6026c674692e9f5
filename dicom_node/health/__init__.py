"""Health of the node: a snapshot of its state, and the problems found in it."""

from __future__ import annotations

from dicom_node.health.problems import (
    KINDS,
    Problem,
    Severity,
    find_problems,
    health_document,
    status_of,
)
from dicom_node.health.snapshot import Snapshot, take_snapshot

__all__ = [
    "KINDS",
    "Problem",
    "Severity",
    "Snapshot",
    "find_problems",
    "health_document",
    "status_of",
    "take_snapshot",
]

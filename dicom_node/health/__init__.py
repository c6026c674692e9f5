"""The node's health: what it looks like, and every trouble it has, for page, mail and metrics."""

from __future__ import annotations

from dicom_node.health.snapshot import Snapshot, take_snapshot
from dicom_node.health.troubles import KINDS, Severity, Trouble, status_of, troubles_of, verdict

__all__ = [
    "KINDS",
    "Severity",
    "Snapshot",
    "Trouble",
    "status_of",
    "take_snapshot",
    "troubles_of",
    "verdict",
]

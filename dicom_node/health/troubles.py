"""Every trouble that the node can have: a pure function each of what the node looks like.

A new kind is one function from a snapshot to sentences, and one line in `KINDS`. Page, health
check, status command, metrics and notifications show it from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dicom_node.health.owed import (
    commitments_late,
    denoising_late,
    failed_jobs,
    paused_long,
    sending_late,
    series_late,
)
from dicom_node.health.running import (
    certificates,
    clock,
    custody,
    disk,
    door,
    ledger,
    parts,
    sweeps,
    unknown,
)
from dicom_node.health.snapshot import Snapshot


class Severity(StrEnum):
    """How bad a trouble is.

    Attributes:
        DEGRADED: Something owed does not move; a person or another system must act.
        UNHEALTHY: The node itself does not do its work.
    """

    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True)
class Kind:
    """A kind of trouble.

    Attributes:
        name: The label in metrics and documents.
        find: Finds its instances, a full sentence each, without any identity of a patient.
    """

    name: str
    severity: Severity
    find: Callable[[Snapshot], Iterator[str]]


@dataclass(frozen=True)
class Trouble:
    """One trouble that the node has."""

    kind: str
    severity: Severity
    text: str


KINDS = (
    Kind("ledger", Severity.UNHEALTHY, ledger),
    Kind("custody", Severity.UNHEALTHY, custody),
    Kind("disk", Severity.UNHEALTHY, disk),
    Kind("part", Severity.UNHEALTHY, parts),
    Kind("sweep", Severity.UNHEALTHY, sweeps),
    Kind("clock", Severity.UNHEALTHY, clock),
    Kind("door", Severity.UNHEALTHY, door),
    Kind("failed", Severity.DEGRADED, failed_jobs),
    Kind("unknown", Severity.DEGRADED, unknown),
    Kind("arriving", Severity.DEGRADED, series_late),
    Kind("denoise", Severity.DEGRADED, denoising_late),
    Kind("send", Severity.DEGRADED, sending_late),
    Kind("commitment", Severity.DEGRADED, commitments_late),
    Kind("paused", Severity.DEGRADED, paused_long),
    Kind("certificate", Severity.DEGRADED, certificates),
)
"""Worst first, as they are shown."""


def troubles_of(snapshot: Snapshot) -> list[Trouble]:
    """Every trouble that the node has, worst first; empty when everything is in order."""
    return [
        Trouble(kind.name, kind.severity, text) for kind in KINDS for text in kind.find(snapshot)
    ]


def status_of(troubles: Sequence[Trouble]) -> str:
    """``healthy``, ``degraded`` or ``unhealthy``."""
    severities = {trouble.severity for trouble in troubles}
    worst = (severity for severity in (Severity.UNHEALTHY, Severity.DEGRADED))
    return next((severity.value for severity in worst if severity in severities), "healthy")


def verdict(troubles: Sequence[Trouble]) -> dict[str, Any]:
    """The node's health as a document, for programs."""
    return {
        "healthy": not troubles,
        "status": status_of(troubles),
        "reasons": [trouble.text for trouble in troubles],
        "troubles": [
            {"kind": trouble.kind, "severity": trouble.severity.value, "text": trouble.text}
            for trouble in troubles
        ],
    }

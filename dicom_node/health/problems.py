"""Registry of the problems that the node can have, each a pure function of its snapshot.

A new kind is one function from a snapshot to messages and one line in `KINDS`. Status page, health
check, status command, metrics and notifications then include it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dicom_node.health.node_problems import (
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
from dicom_node.health.work_problems import (
    commitments_late,
    denoising_late,
    failed_jobs,
    paused_long,
    sending_late,
    series_late,
)


class Severity(StrEnum):
    """Severity of a problem.

    Attributes:
        DEGRADED: Work makes no progress; a person or another system must act.
        UNHEALTHY: The node itself does not work.
    """

    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True)
class Kind:
    """A kind of problem.

    Attributes:
        name: Label in metrics and documents.
        find: Function that yields a message for each instance, without any identity of a patient.
    """

    name: str
    severity: Severity
    find: Callable[[Snapshot], Iterator[str]]


@dataclass(frozen=True)
class Problem:
    """One problem of the node."""

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
"""All kinds, worst first, as they are displayed."""


def find_problems(snapshot: Snapshot) -> list[Problem]:
    """Return all problems of the node, worst first."""
    return [
        Problem(kind.name, kind.severity, text) for kind in KINDS for text in kind.find(snapshot)
    ]


def status_of(problems: Sequence[Problem]) -> str:
    """Return ``healthy``, ``degraded`` or ``unhealthy``."""
    severities = {problem.severity for problem in problems}
    worst = (severity for severity in (Severity.UNHEALTHY, Severity.DEGRADED))
    return next((severity.value for severity in worst if severity in severities), "healthy")


def health_document(problems: Sequence[Problem]) -> dict[str, Any]:
    """Return the health of the node as a JSON document."""
    return {
        "healthy": not problems,
        "status": status_of(problems),
        "reasons": [problem.text for problem in problems],
        "troubles": [
            {"kind": problem.kind, "severity": problem.severity.value, "text": problem.text}
            for problem in problems
        ],
    }

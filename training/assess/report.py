"""Assessment as tables for people and as JSON for programs."""

from __future__ import annotations

import math
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from training.assess.finding import Finding, Interval
from training.assess.protocol import Assessment

COLUMNS = ("measure", "low dose", "model", "full dose", "limit", "verdict", "note")
VERDICTS = {True: "kept", False: "BROKEN", None: ""}


def tables_of(assessment: Assessment) -> list[Table]:
    """Make a table for each subject."""
    named = title_of(assessment)
    groups = by_subject(assessment)
    return [_table(f"{named}: {subject}", group) for subject, group in groups.items()]


def title_of(assessment: Assessment) -> str:
    """Return name, weights and sampling of the model."""
    named = f"{assessment.model} {assessment.weights_sha256[:8]}".strip()
    steps = f", {assessment.sampler} {assessment.steps} steps" if assessment.steps else ""
    return f"{named}{steps}"


def by_subject(assessment: Assessment) -> dict[str, list[Finding]]:
    """Group the findings by subject, in reading order."""
    subjects: dict[str, list[Finding]] = {}
    for finding in assessment.findings:
        subjects.setdefault(finding.subject, []).append(finding)
    return subjects


def json_of(assessment: Assessment) -> dict[str, Any]:
    """Return plain values for JSON; null stands for no measurement, limit or bound."""
    sweep = assessment.sweep
    return {
        "model": assessment.model,
        "weights_sha256": assessment.weights_sha256,
        "sampler": assessment.sampler,
        "steps": assessment.steps,
        "findings": [_plain(finding) for finding in assessment.findings],
        "sweep": sweep.to_json() if sweep else None,
        "passed": not assessment.broken,
    }


def _plain(finding: Finding) -> dict[str, Any]:
    limit = finding.limit
    return {
        "quantity": finding.quantity,
        "subject": finding.subject,
        "value": _measured(finding.value),
        "low_dose": _measured(finding.low_dose),
        "full_dose": _measured(finding.full_dose),
        "interval": finding.interval,
        "low_dose_interval": finding.low_dose_interval,
        "full_dose_interval": finding.full_dose_interval,
        "limit": [_bound(limit.lowest), _bound(limit.highest)] if limit else None,
        "passed": finding.passed,
        "note": finding.note,
    }


def _bound(value: float) -> float | None:
    return None if math.isinf(value) else value


def _measured(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _table(title: str, findings: list[Finding]) -> Table:
    table = Table(*COLUMNS, title=title, box=SIMPLE_HEAD, title_justify="left")
    for finding in findings:
        table.add_row(*cells_of(finding))
    return table


def cells_of(finding: Finding) -> list[str]:
    """Return the text of a finding for each of ``COLUMNS``."""
    return [
        finding.quantity,
        _figure(finding.low_dose, finding.low_dose_interval),
        _figure(finding.value, finding.interval),
        _figure(finding.full_dose, finding.full_dose_interval),
        str(finding.limit or ""),
        VERDICTS[finding.passed],
        finding.note,
    ]


def _figure(value: float | None, interval: Interval | None) -> str:
    if value is None:
        return ""
    figure = f"{value:.0f}" if isinstance(value, int) else f"{value:.2f}"
    return f"{figure} ({interval[0]:.2f} to {interval[1]:.2f})" if interval else figure

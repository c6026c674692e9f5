"""Checks, verdicts and findings of the guard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Check(StrEnum):
    """Checks of the guard.

    All but the first two have a limit of the same name in ``GuardLimits``.
    """

    SHAPE = "shape"
    FINITE = "finite"
    OVERSHOOT = "overshoot"
    NOISE = "noise"
    PLASTIC = "plastic"
    DRIFT_AIR = "drift_air"
    DRIFT_LUNG = "drift_lung"
    DRIFT_FAT = "drift_fat"
    DRIFT_SOFT_TISSUE = "drift_soft_tissue"
    DRIFT_BONE = "drift_bone"
    FAINT_EDGES = "faint_edges"
    STRONG_EDGES = "strong_edges"
    COHERENCE = "coherence"


class Verdict(StrEnum):
    """Verdicts, in order of increasing severity."""

    OK = "ok"
    FLAG = "flag"
    BLOCK = "block"


SEVERITY = {verdict: rank for rank, verdict in enumerate(Verdict)}
"""Rank of each verdict."""


@dataclass(frozen=True)
class Finding:
    """Result of one check on one series.

    Attributes:
        check: Check that was made.
        verdict: Verdict of the check.
        value: Measured value; None if the series shows nothing to measure.
        limit: Limit that the value exceeds, or the next one; None if the check has none.
        unit: Unit of both; empty for a plain number.
        sentence: Description for people, without identity.
    """

    check: Check
    verdict: Verdict
    value: float | None
    limit: float | None
    unit: str
    sentence: str


def worst(findings: Iterable[Finding]) -> Verdict:
    """Return the worst verdict; OK if there are no findings."""
    return max(
        (finding.verdict for finding in findings), key=SEVERITY.__getitem__, default=Verdict.OK
    )

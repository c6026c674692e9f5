"""What the guard says: checks, verdicts and findings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Check(StrEnum):
    """What is looked at.

    Each but the first two has a limit of this name in ``GuardLimits``.
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
    """What follows; each is worse than the one before."""

    OK = "ok"
    FLAG = "flag"
    BLOCK = "block"


SEVERITY = {verdict: rank for rank, verdict in enumerate(Verdict)}
"""How bad a verdict is."""


@dataclass(frozen=True)
class Finding:
    """One check of one series.

    Attributes:
        check: What was looked at.
        verdict: What follows.
        value: What was measured; None where the series holds nothing to measure.
        limit: The limit that the value is over, or the first that it would meet; None without one.
        unit: Of both; empty for a plain number.
        sentence: For people; without identity.
    """

    check: Check
    verdict: Verdict
    value: float | None
    limit: float | None
    unit: str
    sentence: str


def worst(findings: Iterable[Finding]) -> Verdict:
    """The worst verdict of them; OK if there are none."""
    return max(
        (finding.verdict for finding in findings), key=SEVERITY.__getitem__, default=Verdict.OK
    )

"""Uncertainty of measured rows over patients, and paired tests against the subject of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.evaluate.cases import FULL_DOSE
from training.evaluate.resampling import RESAMPLES, bootstrap, sign_flip_p
from training.evaluate.run import SCORES, CaseRow, mean_over, of_one_kind
from training.tables.file import Subject

METHOD = (
    f"Intervals are 95 % percentile intervals of the mean from {RESAMPLES:,} bootstrap resamples of"
    " whole patients (Efron 1979), too narrow for fewer than about ten. p is two-sided, of a paired"
    " test over the patients' means that flips signs (Fisher 1935; Ernst 2004), not corrected for"
    " the number of comparisons; with n patients it cannot fall below 2 / 2ⁿ. One patient has"
    " neither."
)
"""Explanation for the reader of a table."""


@dataclass(frozen=True)
class Estimate:
    """Uncertainty of one number of a row; NaN where patients are too few or a value is infinite.

    Attributes:
        low: Lower limit of the 95 % interval of the mean.
        high: Upper limit.
        difference: Mean over patients of this row minus the subject's; NaN for the subject itself.
        p: Two-sided p of the paired test that this difference is zero.
    """

    low: float = math.nan
    high: float = math.nan
    difference: float = math.nan
    p: float = math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; null stands for a value that does not exist."""
        values = {"difference": self.difference, "p": self.p}
        interval = [self.low, self.high] if math.isfinite(self.low) else None
        finite = {name: v if math.isfinite(v) else None for name, v in values.items()}
        return {"interval": interval, **finite}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Estimate:
        """Rebuild an estimate from ``to_dict``."""
        low, high = fields["interval"] or (math.nan, math.nan)
        difference, p = (
            math.nan if fields[name] is None else float(fields[name])
            for name in ("difference", "p")
        )
        return cls(low, high, difference, p)


Estimates = dict[str, Estimate]
"""Estimates of a row by number, one of ``SCORES``."""


def estimates_of(rows: Sequence[CaseRow], subject: Subject | None) -> list[Estimates]:
    """Estimate the uncertainty of each row that ``averaged`` makes of case rows, in its order.

    Args:
        rows: Rows of single cases.
        subject: Row that the others are tested against; None: no tests.
    """
    kinds = of_one_kind(rows)
    own = {_cases(group): group for group in kinds if subject and group[0].row.row == subject.row}
    return [
        {name: _estimate(name, group, own.get(_cases(group))) for name in SCORES} for group in kinds
    ]


def _cases(group: Sequence[CaseRow]) -> tuple[object, ...]:
    row = group[0].row
    return row.split, row.dose, row.real, row.window_hu


def _estimate(name: str, group: Sequence[CaseRow], own: Sequence[CaseRow] | None) -> Estimate:
    of_patients = _by_patient(name, group)
    values, slices = (
        np.array(part, dtype=float) for part in zip(*of_patients.values(), strict=True)
    )
    low, high = bootstrap(values, slices)
    if own is None or own is group or group[0].row.dose == FULL_DOSE:
        return Estimate(low, high)
    theirs = _by_patient(name, own)
    common = [patient for patient in of_patients if patient in theirs]
    differences = np.array([of_patients[p][0] - theirs[p][0] for p in common], dtype=float)
    mean = float(differences.mean()) if common else math.nan
    return Estimate(low, high, mean, sign_flip_p(differences))


def _by_patient(name: str, group: Sequence[CaseRow]) -> dict[str, tuple[float, int]]:
    """Return the mean over the slices of each patient, and their number."""
    found: dict[str, list[CaseRow]] = {}
    for each in group:
        found.setdefault(each.patient, []).append(each)
    means = {}
    for patient, rows in found.items():
        slices = [each.row.slices for each in rows]
        means[patient] = mean_over([getattr(each.row, name) for each in rows], slices), sum(slices)
    return means

"""Trials of a model with inserted lesions: none lost, none invented."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from man_core import series_seed
from man_core.physics.low_dose import MIN_STORED_HU
from man_core.quality import (
    LOST_SHARE,
    InsertedLesion,
    LesionTrial,
    judge_lesions,
    paint_lesions,
    plan_lesions,
)
from training.assess.finding import LESIONS, MEDIAN_CONTRAST, MIN_CONTRAST, Finding
from training.assess.images import CaseResult, apply
from training.evaluate.cases import Case
from training.evaluate.methods import Method

Lesions = tuple[InsertedLesion, ...]


def plan(cases: Sequence[Case], trials: int) -> list[Lesions]:
    """Plan lesions for each case by its slices; those without room go to the next cases."""
    slices, planned = sum(len(case.full) for case in cases), []
    for case in cases:
        count = -(-trials * len(case.full) // slices)
        seed = series_seed(case.name, "planted lesions")
        lesions = plan_lesions(case.full, case.low.spacing_mm[1], count=count, seed=seed)
        planned.append(lesions)
        trials, slices = trials - len(lesions), slices - len(case.full)
    return planned


def insert(method: Method, outcome: CaseResult, lesions: Lesions) -> tuple[LesionTrial, ...]:
    """Insert lesions before the noise of the low dose and judge the result of the model."""
    if not lesions:
        return ()
    case, pixel_mm = outcome.case, outcome.case.low.spacing_mm[1]
    added = paint_lesions(case.low.shape, pixel_mm, lesions)
    low = case.low.with_hu(np.maximum(case.low.hu + added, np.float32(MIN_STORED_HU)))
    with_lesions = apply(method, replace(case, low=low, full=case.full + added))
    return judge_lesions(
        lesions,
        pixel_mm,
        with_lesions=with_lesions,
        without=outcome.result,
        low=case.low.hu,
        full=case.full,
    )


def survival(trials: Sequence[LesionTrial], cases: Sequence[Case]) -> Iterator[Finding]:
    """Report the contrast of inserted lesions that remains, and lost and invented lesions."""
    subject = f"{cases[0].split}, {len(trials)} lesions of at least 5 mm and 40 HU"
    if not trials:
        yield Finding("lesions lost", subject, np.nan, limit=LESIONS, note="no room to insert any")
        return
    yield from _contrast(trials, subject)
    lost = sum(trial.lost for trial in trials)
    note = f"less than {LOST_SHARE:g} of their contrast remains"
    yield Finding("lesions lost", subject, lost, 0, LESIONS, note)
    highest = max(trial.invented_hu for trial in trials)
    yield Finding(
        "lesions invented",
        subject,
        sum(trial.invented for trial in trials),
        0,
        LESIONS,
        f"strongest spot that is in neither dose: {highest:.0f} HU",
    )


def _contrast(trials: Sequence[LesionTrial], subject: str) -> Iterator[Finding]:
    """Report the share of the contrast that remains; in the low dose it is whole."""
    median = float(np.median([trial.recovered_share for trial in trials]))
    yield Finding("contrast of lesions, median", subject, median, 1.0, MEDIAN_CONTRAST)
    worst = min(trials, key=lambda trial: trial.recovered_share)
    yield Finding(
        "contrast of lesions, least",
        subject,
        worst.recovered_share,
        1.0,
        MIN_CONTRAST,
        f"{worst.lesion.diameter_mm:g} mm, {worst.lesion.contrast_hu:+g} HU",
    )

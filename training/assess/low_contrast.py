"""Low-contrast detectability after the protocol of the FDA (LCD-CT, RST24MD08.01).

The discs of the CCT189 phantom, and regions without one, at full dose, at low dose and in the
result of a model; channelised Hotelling observers look for the discs. In water the noise is the
only obstacle. In slices of patients anatomy is another, for every row: results in uniform
phantoms differ from those in patients, with denoisers that are not linear in particular.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import torch

from man_core import Condition, Volume, series_seed
from man_core.physics.low_dose import MIN_STORED_HU
from man_core.physics.phantom.cct189 import CCT189_DISCS, Disc, cct189_places, cct189_water
from man_core.physics.phantom.rods import PIXEL_MM
from man_core.quality import InsertedLesion, paint_lesions, plan_lesions
from training.assess.disc_responses import IMAGES, OBSERVERS, Images, Responses
from training.assess.finding import Finding, Limit
from training.assess.images import CaseResult, apply, subject_of
from training.assess.observer import Observed
from training.assess.phantom import MODEL_THICKNESS_MM, noisier
from training.evaluate.cases import Case
from training.evaluate.methods import Method

DEFAULT_PAIRS = 200

IMAGES_AT_ONCE = 25
PLACE_DISC = max(CCT189_DISCS, key=lambda disc: disc.diameter_mm)


def water_findings(method: Method, dose: float, pairs: int) -> Iterator[Finding]:
    """Measure the detectability of the discs in water.

    Args:
        method: Model.
        dose: Fraction of full dose.
        pairs: Number of regions with each disc, and of those without any.

    Raises:
        TrainingError: The model failed.
    """
    responses, places = Responses(flat=False), cct189_places()
    generator = torch.Generator().manual_seed(1)
    absent = -(-pairs // len(places))
    present = -(-pairs * len(CCT189_DISCS) // len(places))
    for first in range(0, absent + present, IMAGES_AT_ONCE):
        numbers = range(first, min(first + IMAGES_AT_ONCE, absent + present))
        discs = [_discs(index, number - absent) for index, number in enumerate(numbers)]
        images = _in_water(method, dose, [lesion for disc in discs for lesion in disc], generator)
        for disc in (None, *CCT189_DISCS):
            own = [lesion for each in discs for lesion in each if _disc_of(lesion) == disc]
            responses.add(disc, own, images, PIXEL_MM)
    subject = f"CCT189 discs in water, simulated dose {dose:g}, {pairs} pairs"
    yield from _findings(responses, subject, pairs)


def _discs(index: int, number: int) -> list[InsertedLesion]:
    """Plan an image: the discs in turn at the places; none if its number is negative."""
    planned = []
    for turn, (row, column) in enumerate(cct189_places()):
        diameter, contrast = CCT189_DISCS[(turn + number) % len(CCT189_DISCS)]
        contrast = contrast if number >= 0 else 0.0
        planned.append(InsertedLesion(index, row, column, diameter, contrast))
    return planned


def _disc_of(lesion: InsertedLesion) -> Disc | None:
    return Disc(lesion.diameter_mm, lesion.contrast_hu) if lesion.contrast_hu else None


def _in_water(
    method: Method, dose: float, lesions: Sequence[InsertedLesion], generator: torch.Generator
) -> Images:
    slices = 1 + max(lesion.slice for lesion in lesions)
    truth = np.repeat(cct189_water()[None], slices, axis=0)
    full = noisier(truth + paint_lesions(truth.shape, PIXEL_MM, tuple(lesions)), 0.5, generator)
    low = noisier(full, dose, generator)
    spacing = (MODEL_THICKNESS_MM, PIXEL_MM, PIXEL_MM)
    volume = Volume(low, spacing, np.diag([*spacing, 1.0]))
    condition = Condition(anatomy="ABDOMEN", thickness_mm=MODEL_THICKNESS_MM)
    known = ("CCT189", "water", "phantom")
    case = Case(*known, dose, False, volume, full, condition, "abdomen")
    return {"low": low, "model": apply(method, case), "full": full}


def patient_findings(
    method: Method, outcomes: Sequence[CaseResult], pairs: int
) -> Iterator[Finding]:
    """Measure the detectability of the discs in uniform soft tissue of patients.

    Places take turns: every other one holds a disc, each of the four in an image of its own, and
    the others none, so that regions with and without a disc are independent.

    Args:
        method: Model.
        outcomes: Cases and the results of the model.
        pairs: Wanted number of pairs; there are fewer if the tissue has no more room.

    Raises:
        TrainingError: The model failed.
    """
    responses, left = Responses(flat=True), 2 * pairs
    slices = sum(len(outcome.case.full) for outcome in outcomes)
    for outcome in outcomes:
        share = -(-left * len(outcome.case.full) // slices)
        places = _places(outcome.case, share)
        _insert(method, outcome, places, responses)
        left, slices = left - len(places), slices - len(outcome.case.full)
    found = min(pairs, responses.pairs())
    kinds = sorted({subject_of(outcome.case) for outcome in outcomes})
    subject = f"CCT189 discs in patients, {'; '.join(kinds)}, {found} pairs"
    yield from _findings(responses, subject, found)


def _places(case: Case, count: int) -> tuple[InsertedLesion, ...]:
    seed = series_seed(case.name, "low-contrast discs")
    diameters, contrasts = ((value,) for value in PLACE_DISC)
    return plan_lesions(
        case.full,
        case.low.spacing_mm[1],
        count=count,
        seed=seed,
        diameters_mm=diameters,
        contrasts_hu=contrasts,
    )


def _insert(
    method: Method, outcome: CaseResult, places: Sequence[InsertedLesion], responses: Responses
) -> None:
    """Insert each disc before the noise of the low dose, and read the regions."""
    case, absent = outcome.case, places[1::2]
    if not absent:
        return
    pixel_mm = case.low.spacing_mm[1]
    without = {"low": case.low.hu, "model": outcome.result, "full": case.full}
    responses.add(None, absent, without, pixel_mm)
    for disc in CCT189_DISCS:
        held = tuple(
            replace(place, diameter_mm=disc.diameter_mm, contrast_hu=disc.contrast_hu)
            for place in places[::2]
        )
        added = paint_lesions(case.low.shape, pixel_mm, held)
        low = case.low.with_hu(np.maximum(case.low.hu + added, np.float32(MIN_STORED_HU)))
        full = case.full + added
        result = apply(method, replace(case, low=low, full=full))
        images = {"low": low.hu, "model": result, "full": full}
        responses.add(disc, held, images, pixel_mm)


def _findings(responses: Responses, subject: str, pairs: int) -> Iterator[Finding]:
    for disc, observer in product(CCT189_DISCS, OBSERVERS):
        named = f"{disc.contrast_hu:g} HU, {disc.diameter_mm:g} mm, {observer}"
        yield from _compared(named, subject, responses.observed(disc, observer, pairs))


def _compared(named: str, subject: str, rows: dict[str, Observed]) -> Iterator[Finding]:
    if len(rows) < len(IMAGES):
        yield Finding(f"d', {named}", subject, math.nan, note="too few pairs")
        return
    low, own, full = (rows[name] for name in IMAGES)
    yield Finding(
        f"d', {named}",
        subject,
        own.d,
        low.d,
        Limit(low.interval[0], math.inf),
        full_dose=full.d,
        interval=own.interval,
        low_dose_interval=low.interval,
        full_dose_interval=full.interval,
    )
    yield Finding(
        f"AUC, {named}",
        subject,
        own.auc,
        low.auc,
        full_dose=full.auc,
        interval=own.auc_interval,
        low_dose_interval=low.auc_interval,
        full_dose_interval=full.auc_interval,
    )

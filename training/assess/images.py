"""Assessment on patient images: HU bias, full dose as input, texture, neighbouring slices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from man_core import ModelError
from man_core.quality import (
    SOFT_TISSUE,
    between_slices,
    change_over_noise,
    hu_bias,
    tissue_noise_power,
)
from training.assess.finding import (
    BETWEEN_SLICES,
    BIAS_HU,
    FULL_DOSE_CHANGE,
    PATIENT_BIAS_BONE_HU,
    PATIENT_BIAS_HU,
    Finding,
)
from training.errors import TrainingError
from training.evaluate.cases import FULL_DOSE, Case
from training.evaluate.methods import Method

Hu = NDArray[np.float32]

JUDGED_TISSUES = ("air", "fat", "soft tissue", "bone")
"""Tissues whose bias has a limit; that of lung is for information only."""

PATIENT_BIAS_LIMITS = {
    "lung": PATIENT_BIAS_HU,
    "fat": PATIENT_BIAS_HU,
    "soft tissue": PATIENT_BIAS_HU,
    "bone": PATIENT_BIAS_BONE_HU,
}
"""Limits of the bias of a patient; outside the body, in air, noise alone makes one."""

FULL_DOSE_SLICES = 4
"""Number of slices of a series that the model gets at full dose."""


@dataclass(frozen=True, eq=False)
class CaseResult:
    """A case and the result of the model, HU [slice, row, column]."""

    case: Case
    result: Hu


def apply(method: Method, case: Case) -> Hu:
    """Apply a method to a case; return HU [slice, row, column].

    Raises:
        TrainingError: The model failed.
    """
    try:
        return method.apply(case, SOFT_TISSUE)[0]
    except ModelError as error:
        raise TrainingError(str(error)) from error


def subject_of(case: Case) -> str:
    """Describe split, kind and dose of a case."""
    return f"{case.split}, {'real' if case.real else 'simulated'} dose {case.dose:g}"


def bias(outcomes: Sequence[CaseResult]) -> Iterator[Finding]:
    """Measure the mean HU of result minus full dose by tissue, for each kind of case."""
    for subject, group in _by_subject(outcomes).items():
        own = [hu_bias(each.result, each.case.full) for each in group]
        low = [hu_bias(each.case.low.hu, each.case.full) for each in group]
        slices = [len(each.case.full) for each in group]
        for tissue in {name: None for row in own for name in row}:
            yield Finding(
                f"HU bias, {tissue}",
                subject,
                _mean_of(own, tissue, slices),
                _mean_of(low, tissue, slices),
                BIAS_HU if tissue in JUDGED_TISSUES else None,
            )


def patient_bias(outcomes: Sequence[CaseResult]) -> Iterator[Finding]:
    """Measure the bias of each patient by tissue; the mean of the absolute values over patients."""
    for subject, group in _by_subject(outcomes).items():
        own = _bias_of_patients(group, [each.result for each in group])
        low = _bias_of_patients(group, [each.case.low.hu for each in group])
        for tissue, biases in own.items():
            yield Finding(
                f"HU bias of a patient, {tissue}",
                subject,
                float(np.mean(np.abs(biases))),
                float(np.mean(np.abs(low[tissue]))),
                PATIENT_BIAS_LIMITS.get(tissue),
                f"{len(biases)} patient(s), at most {max(biases, key=abs):+.1f} HU",
            )


def full_dose_change(method: Method, cases: Sequence[Case]) -> Finding:
    """Measure the change of full dose as input, in units of its own noise in soft tissue."""
    full = [_at_full_dose(case) for case in cases]
    changes = [change_over_noise(apply(method, case), case.full) for case in full]
    known = [change for change in changes if not math.isnan(change)]
    slices = [len(c.full) for c, change in zip(full, changes, strict=True) if change in known]
    return Finding(
        "change of full dose over its noise",
        f"{cases[0].split}, full dose",
        float(np.average(known, weights=slices)) if known else math.nan,
        limit=FULL_DOSE_CHANGE,
        note=f"{sum(slices)} slices, at most {max(known):.2f} in a series" if known else "",
    )


def tissue_noise(outcomes: Sequence[CaseResult]) -> Iterator[Finding]:
    """Measure peak and mean frequency of the texture in soft tissue, over full dose.

    They have no limits: patches of a patient contain anatomy as well as noise, and a model that
    removes noise leaves anatomy, which is slower. Phantoms show noise alone.
    """
    ratios = [_frequency_ratios(each) for each in outcomes]
    ratios = [ratio for ratio in ratios if np.isfinite(ratio).all()]
    if not ratios:
        return
    peak, peak_low, mean, mean_low = np.median(ratios, axis=0)
    subject = f"{outcomes[0].case.split}, texture in soft tissue, median of {len(ratios)} series"
    yield Finding("peak frequency over full dose, with anatomy", subject, peak, peak_low)
    yield Finding("mean frequency over full dose, with anatomy", subject, mean, mean_low)


def continuity(outcome: CaseResult) -> Iterator[Finding]:
    """Measure the energy of the difference of neighbouring slices, over that of full dose."""
    case, pixel_mm = outcome.case, outcome.case.low.spacing_mm[1]
    own = between_slices(outcome.result, case.full, pixel_mm)
    low = between_slices(case.low.hu, case.full, pixel_mm)
    subject = f"{subject_of(case)}, {len(case.full)} neighbouring slices"
    yield Finding("energy between slices", subject, own.energy, low.energy, BETWEEN_SLICES)
    yield Finding(
        "energy between slices, noise taken out", subject, own.compensated, low.compensated
    )
    yield Finding("energy between slices, coarse", subject, own.coarse, low.coarse, BETWEEN_SLICES)


def _frequency_ratios(outcome: CaseResult) -> tuple[float, float, float, float]:
    """Return peak of result and low dose and mean of both, each over that of full dose."""
    case, pixel_mm = outcome.case, outcome.case.low.spacing_mm[1]
    own, low, full = (
        tissue_noise_power(hu, pixel_mm, case.full)
        for hu in (outcome.result, case.low.hu, case.full)
    )
    return (
        own.peak / full.peak,
        low.peak / full.peak,
        own.mean / full.mean,
        low.mean / full.mean,
    )


def _at_full_dose(case: Case) -> Case:
    chosen = np.linspace(0, len(case.full) - 1, min(FULL_DOSE_SLICES, len(case.full)))
    indices = chosen.round().astype(int)
    full = case.full[indices]
    low = replace(case.low, hu=full)
    positions = tuple(case.positions_mm[index] for index in indices) if case.positions_mm else ()
    return replace(case, dose=FULL_DOSE, low=low, full=full, positions_mm=positions)


def _by_subject(outcomes: Sequence[CaseResult]) -> dict[str, list[CaseResult]]:
    kinds: dict[str, list[CaseResult]] = {}
    for each in outcomes:
        kinds.setdefault(subject_of(each.case), []).append(each)
    return kinds


def _bias_of_patients(group: Sequence[CaseResult], images: Sequence[Hu]) -> dict[str, list[float]]:
    """Return the mean HU of images minus full dose by tissue, one value for each patient."""
    biases: dict[str, list[float]] = {}
    for patient in {each.case.patient: None for each in group}:
        held = [place for place, each in enumerate(group) if each.case.patient == patient]
        rows = [hu_bias(images[place], group[place].case.full) for place in held]
        slices = [len(images[place]) for place in held]
        for tissue in {name: None for row in rows for name in row}:
            biases.setdefault(tissue, []).append(_mean_of(rows, tissue, slices))
    return biases


def _mean_of(rows: Sequence[dict[str, float]], tissue: str, slices: Sequence[int]) -> float:
    held = [(row[tissue], n) for row, n in zip(rows, slices, strict=True) if tissue in row]
    values, weights = zip(*held, strict=True)
    return float(np.average(values, weights=weights))

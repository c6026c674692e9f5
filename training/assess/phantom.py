"""Assessment on phantoms with known truth: noise texture, sharpness, detectability.

The full dose of a patient contains anatomy whose spectrum covers the peak of its noise. In phantoms
the truth is subtracted, which leaves the noise alone, of the full dose and of the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from man_core import Condition, Volume
from man_core.physics.low_dose import insert_noise
from man_core.physics.phantom.rods import (
    PIXEL_MM,
    RODS,
    SIZE,
    centre_of,
    rod_phantom,
    uniform_water,
)
from man_core.physics.phantom.series import low_dose_phantom
from man_core.quality import (
    InsertedLesion,
    NoisePower,
    detectability,
    difference_noise_power,
    paint_lesions,
    task_transfer,
    uniform_tissue,
)
from training.assess.finding import NOISE_PEAK, Finding
from training.assess.images import CaseResult, Hu, apply, continuity, subject_of
from training.evaluate.cases import Case
from training.evaluate.methods import Method

PHANTOM_SLICES = 5
PHANTOM_SIZE = 512
PHANTOM_NOISE_HU = 14.0
"""Noise of the full dose of a phantom: the median of clinical series."""

PHANTOM_CUTOFF = 1.2
"""Texture of a standard abdominal kernel, see ``man_core.noise_texture``."""

UNIFORM_REACH_PIXELS = 4
"""Radius of uniform tissue around each pixel of a region of interest in the simulated patient."""

REALISATIONS = 12
"""Slices of the water phantom with independent noise."""

SIGNAL_DIAMETER_MM = 6.0
SIGNAL_HU = 20.0
"""Lesion at the limit of detection in low dose."""

SIGNAL_STEP_PIXELS = 20
SIGNAL_SIDE_PIXELS = 24
"""Distance of signals, and side of the region around each that the observer gets."""

MODEL_THICKNESS_MM = 3.0


def phantom_findings(method: Method, dose: float) -> Iterator[Finding]:
    """Assess a model on a simulated abdomen and on a phantom of water and rods.

    Args:
        method: Model.
        dose: Fraction of full dose.

    Raises:
        TrainingError: The model failed.
    """
    yield from _patient_findings(method, dose)
    yield from _rod_findings(method, Rods(dose))


def _patient_findings(method: Method, dose: float) -> Iterator[Finding]:
    pair = low_dose_phantom(
        "abdomen",
        dose=dose,
        noise_hu=PHANTOM_NOISE_HU,
        cutoff=PHANTOM_CUTOFF,
        slices=PHANTOM_SLICES,
        size=PHANTOM_SIZE,
    )
    condition = Condition(anatomy="ABDOMEN", thickness_mm=pair.full.spacing_mm[0])
    known = ("simulated patient", "abdomen", "phantom")
    case = Case(*known, dose, False, pair.low, pair.full.hu, condition, "abdomen")
    outcome = CaseResult(case, apply(method, case))
    yield from continuity(outcome)
    pixel_mm = case.low.spacing_mm[1]
    within = np.stack([uniform_tissue(hu, pixel_mm, UNIFORM_REACH_PIXELS) for hu in pair.truth.hu])
    yield from _noise(outcome, pair.truth.hu, within)


def _noise(outcome: CaseResult, truth: Hu, within: NDArray[np.bool_]) -> Iterator[Finding]:
    """Measure peak and mean frequency of the noise, over full dose."""
    case, pixel_mm = outcome.case, outcome.case.low.spacing_mm[1]
    own, low, full = (
        difference_noise_power(hu - truth, pixel_mm, within)
        for hu in (outcome.result, case.low.hu, case.full)
    )
    if not full.power.any():
        return  # no region of interest fits into the uniform tissue
    subject = subject_of(case)
    yield Finding(
        "noise peak frequency over full dose",
        subject,
        own.peak / full.peak,
        low.peak / full.peak,
        NOISE_PEAK,
        f"full dose {full.peak:.2f} cycles/mm; {noise_share(own, full):.2f} of its noise left",
    )
    yield Finding(
        "noise mean frequency over full dose", subject, own.mean / full.mean, low.mean / full.mean
    )


def noise_share(own: NoisePower, reference: NoisePower) -> float:
    """Return noise over that of a reference; rings are weighted by their circumference."""
    powers = [(noise.power * noise.frequency).sum() for noise in (own, reference)]
    return float(np.sqrt(powers[0] / powers[1]))


@dataclass(frozen=True)
class Rods:
    """Phantom of water and rods at low dose, with independent noise in every slice.

    Attributes:
        dose: Fraction of full dose.
    """

    dose: float

    @cached_property
    def truth(self) -> NDArray[np.float32]:
        """HU without noise [slice, row, column]."""
        return np.repeat(rod_phantom()[None], REALISATIONS, axis=0)

    @cached_property
    def case(self) -> Case:
        """Case without signals."""
        generator = torch.Generator().manual_seed(1)
        full = noisier(self.truth, 0.5, generator)
        low = noisier(full, self.dose, generator)
        spacing = (MODEL_THICKNESS_MM, PIXEL_MM, PIXEL_MM)
        volume = Volume(low, spacing, np.diag([*spacing, 1.0]))
        condition = Condition(anatomy="ABDOMEN", thickness_mm=MODEL_THICKNESS_MM)
        known = ("water and rods", "rods", "phantom")
        return Case(*known, self.dose, False, volume, full, condition, "abdomen")

    @cached_property
    def signals(self) -> NDArray[np.float32]:
        """Values that the signals add to every slice."""
        planted = tuple(
            InsertedLesion(index, row, column, SIGNAL_DIAMETER_MM, SIGNAL_HU)
            for index in range(REALISATIONS)
            for row, column in _signal_places()
        )
        return paint_lesions(self.truth.shape, PIXEL_MM, planted)

    @cached_property
    def with_signals(self) -> Case:
        """Low dose of ``case`` with the signals, in the same noise."""
        return replace(self.case, low=self.case.low.with_hu(self.case.low.hu + self.signals))


def _rod_findings(method: Method, rods: Rods) -> Iterator[Finding]:
    case, signals = rods.case, rods.signals
    outcome = CaseResult(case, apply(method, case))
    within = np.broadcast_to(uniform_water(), rods.truth.shape)
    yield from _noise(outcome, rods.truth, within)
    yield from _sharpness(outcome, rods.truth)
    low = rods.with_signals.low
    present = apply(method, rods.with_signals)
    full = observed(case.full + signals, case.full)
    yield Finding(
        f"detectability d' of {SIGNAL_DIAMETER_MM:g} mm, {SIGNAL_HU:g} HU",
        subject_of(case),
        observed(present, outcome.result),
        observed(low.hu, case.low.hu),
        note=f"full dose {full:.2f}; channelised Hotelling observer",
    )


def _sharpness(outcome: CaseResult, truth: Hu) -> Iterator[Finding]:
    for rod in RODS:
        own, low, true = (
            task_transfer(hu, PIXEL_MM, centre_of(rod), rod.radius_mm)
            for hu in (outcome.result, outcome.case.low.hu, truth)
        )
        yield Finding(
            f"sharpness f50 over truth, {rod.name}",
            subject_of(outcome.case),
            own.at(0.5) / true.at(0.5),
            low.at(0.5) / true.at(0.5),
            note=f"truth {true.at(0.5):.2f} cycles/mm; contrast {own.contrast_hu:+.1f} HU "
            f"of {rod.contrast_hu:+g}",
        )


def observed(present: Hu, absent: Hu) -> float:
    """Return the detectability d' of the signals, from results with and without them."""
    half = SIGNAL_SIDE_PIXELS // 2
    pairs = [
        np.concatenate(
            [
                hu[:, row - half : row + half + 1, column - half : column + half + 1]
                for row, column in _signal_places()
            ]
        )
        for hu in (present, absent)
    ]
    return detectability(*pairs)


def _signal_places() -> list[tuple[int, int]]:
    """Return four by four places in the water (row, column)."""
    first = SIZE // 2 - round(1.5 * SIGNAL_STEP_PIXELS)
    line = range(first, first + 4 * SIGNAL_STEP_PIXELS, SIGNAL_STEP_PIXELS)
    return [(row, column) for row in line for column in line]


def noisier(hu: Hu, dose: float, generator: torch.Generator) -> Hu:
    """Add the noise that separates a phantom's full dose from a fraction of it."""
    noisy: Hu = insert_noise(
        torch.from_numpy(hu.copy()),
        PIXEL_MM,
        dose=dose,
        noise_hu=PHANTOM_NOISE_HU,
        cutoff=PHANTOM_CUTOFF,
        generator=generator,
    ).numpy()
    return noisy

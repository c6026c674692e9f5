"""Low-contrast discs in water and in patients: rows side by side, and what a bad model loses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from man_core import Condition, Volume
from man_core.physics.phantom.cct189 import CCT189_DISCS, cct189_places, cct189_water
from man_core.physics.phantom.rods import PIXEL_MM, SIZE
from training.assess import low_contrast
from training.assess.finding import Finding
from training.assess.images import CaseResult, apply
from training.evaluate.cases import Case
from training.evaluate.classical import gaussian_blur
from training.evaluate.methods import Method, untouched

Hu = NDArray[np.float32]

PAIRS = 56


@pytest.fixture(autouse=True)
def white_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """White noise, as the projections of the simulated noise take minutes."""

    def noisier(hu: Hu, dose: float, generator: torch.Generator) -> Hu:
        drawn = torch.randn(hu.shape, generator=generator).numpy()
        return hu + 5.0 * np.float32(math.sqrt(1.0 / dose - 1.0)) * drawn

    monkeypatch.setattr(low_contrast, "noisier", noisier)


def method(change: float = 1.0, blur: float = 0.0) -> Method:
    def apply(case: Case, _window: tuple[float, float]) -> tuple[Hu, float]:
        return change * gaussian_blur(case.low.hu, blur) if blur else change * case.low.hu, 0.0

    return Method("changed", "", 0, apply)


def seeded() -> Method:
    """Replace the image by noise of another seed: whatever was there is lost."""

    def apply(case: Case, _window: tuple[float, float]) -> tuple[Hu, float]:
        return np.random.default_rng(5).normal(0, 9, case.low.shape).astype(np.float32), 0.0

    return Method("noise", "", 0, apply)


def in_water(by: Method) -> dict[str, Finding]:
    return {found.quantity: found for found in low_contrast.water_findings(by, 0.25, PAIRS)}


def detected(found: dict[str, Finding]) -> list[Finding]:
    return [each for name, each in found.items() if name.startswith("d'")]


def test_full_dose_shows_more_than_low_dose_whatever_the_disc_and_the_observer() -> None:
    found = in_water(untouched())
    assert len(found) == 2 * 2 * len(CCT189_DISCS)
    for each in detected(found):
        assert each.low_dose is not None
        assert each.full_dose is not None
        assert each.low_dose < each.full_dose
        assert each.value == each.low_dose
        assert each.interval == each.low_dose_interval
        assert each.passed is True
        assert str(PAIRS) in each.subject


def test_no_scaling_changes_what_the_noise_hides() -> None:
    for each in detected(in_water(method(change=0.3))):
        assert each.value == pytest.approx(each.low_dose, rel=1e-3)


def test_a_model_that_loses_the_discs_breaks_the_limit_and_stays_at_chance() -> None:
    found = in_water(seeded())
    assert any(each.passed is False for each in detected(found))
    strongest = found["AUC, 14 HU, 3 mm, Laguerre-Gauss"]
    assert strongest.limit is None
    assert strongest.value < 0.7 < strongest.full_dose  # type: ignore[operator]


def test_the_same_noise_again_gives_the_same_figures() -> None:
    assert in_water(untouched()) == in_water(untouched())


def test_too_few_pairs_are_said() -> None:
    found = list(low_contrast.water_findings(untouched(), 0.25, 4))
    assert all(math.isnan(each.value) and each.note == "too few pairs" for each in found)
    assert all(each.passed is None for each in found)


def patient(pixel_mm: float) -> CaseResult:
    random = np.random.default_rng(1)
    shape = (2, 160, 160)
    full = random.normal(50.0, 6.0, shape).astype(np.float32)
    low = (full + random.normal(0.0, 9.0, shape)).astype(np.float32)
    volume = Volume(low, (3.0, pixel_mm, pixel_mm), np.eye(4))
    case = Case("validation", f"{pixel_mm}", "p", 0.25, False, volume, full, Condition())
    return CaseResult(case, low)


def test_discs_in_patients_of_different_pixels_are_found_together() -> None:
    outcomes = [patient(0.8), patient(0.9)]
    found = list(low_contrast.patient_findings(untouched(), outcomes, 30))
    named = {each.quantity: each for each in found}
    strongest = named["d', 14 HU, 3 mm, Laguerre-Gauss"]
    assert strongest.value == strongest.low_dose
    assert 1.0 < strongest.value < strongest.full_dose  # type: ignore[operator]
    assert "in patients, validation, simulated dose 0.25, " in strongest.subject


def test_without_room_in_the_tissue_there_is_no_verdict() -> None:
    outcome = patient(0.8)
    air = np.full_like(outcome.case.full, -1000.0)
    case = Case(*("v", "a", "p"), 0.25, False, outcome.case.low.with_hu(air), air, Condition())
    empty = CaseResult(case, apply(untouched(), case))
    found = list(low_contrast.patient_findings(untouched(), [empty], 10))
    assert all(math.isnan(each.value) for each in found)


def test_places_have_one_distance_from_the_centre_and_lie_in_water() -> None:
    water = cct189_water()
    middle = 0.5 * (SIZE - 1)
    for row, column in cct189_places():
        assert water[row, column] == 0.0
        distance = PIXEL_MM * math.hypot(row - middle, column - middle)
        assert distance == pytest.approx(40.0, abs=0.6)

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from man_core.quality import (
    InsertedLesion,
    LesionTrial,
    judge_lesions,
    paint_lesions,
    plan_lesions,
)

Hu = NDArray[np.float32]

PIXEL_MM = 0.8
SHAPE = (2, 128, 128)


def tissue() -> Hu:
    """Noisy tissue with a band of fat, in which no lesion is planted."""
    hu = np.random.default_rng(1).normal(50.0, 10.0, SHAPE).astype(np.float32)
    hu[:, 60:70] -= 150.0
    return hu


def low_dose(full: Hu) -> Hu:
    return (full + np.random.default_rng(2).normal(0.0, 17.0, SHAPE)).astype(np.float32)


def blurred(hu: Hu, sigma: float) -> Hu:
    half = math.ceil(3 * sigma)
    line = torch.exp(-0.5 * (torch.arange(-half, half + 1) / sigma) ** 2)
    line /= line.sum()
    image = torch.nn.functional.pad(torch.from_numpy(hu.copy())[:, None], [half] * 4, "replicate")
    image = torch.nn.functional.conv2d(image, line[None, None, :, None])
    image = torch.nn.functional.conv2d(image, line[None, None, None, :])
    return image[:, 0].numpy()


@pytest.fixture(scope="module")
def full() -> Hu:
    return tissue()


@pytest.fixture(scope="module")
def lesions(full: Hu) -> tuple[InsertedLesion, ...]:
    return plan_lesions(full, PIXEL_MM, count=12, seed=3)


def trials(full: Hu, lesions: tuple[InsertedLesion, ...], sigma: float) -> tuple[LesionTrial, ...]:
    low = low_dose(full)
    added = paint_lesions(SHAPE, PIXEL_MM, lesions)
    with_, without = low + added, low
    if sigma:
        with_, without = blurred(with_, sigma), blurred(without, sigma)
    return judge_lesions(lesions, PIXEL_MM, with_lesions=with_, without=without, low=low, full=full)


def test_what_changes_nothing_loses_and_invents_nothing(
    full: Hu, lesions: tuple[InsertedLesion, ...]
) -> None:
    found = trials(full, lesions, 0.0)
    assert [trial.recovered_share for trial in found] == pytest.approx([1.0] * 12, abs=1e-5)
    assert not any(trial.lost or trial.invented for trial in found)


def test_a_strong_blur_loses_lesions_and_a_weak_one_none(
    full: Hu, lesions: tuple[InsertedLesion, ...]
) -> None:
    assert not any(trial.lost for trial in trials(full, lesions, 0.8))
    assert all(trial.lost for trial in trials(full, lesions, 8.0))


def test_what_adds_spots_invents_lesions(full: Hu, lesions: tuple[InsertedLesion, ...]) -> None:
    low = low_dose(full)
    spots = tuple(replace(spot, contrast_hu=-60.0) for spot in lesions)
    beside = np.roll(paint_lesions(SHAPE, PIXEL_MM, spots), (2, -1), axis=(1, 2))
    result = low + beside
    planted = result + paint_lesions(SHAPE, PIXEL_MM, lesions)
    found = judge_lesions(
        lesions, PIXEL_MM, with_lesions=planted, without=result, low=low, full=full
    )
    assert all(trial.invented and not trial.lost for trial in found)
    assert min(trial.invented_hu for trial in found) > 40.0


def test_noise_that_was_there_before_is_not_invented(
    full: Hu, lesions: tuple[InsertedLesion, ...]
) -> None:
    loud = full + 30.0 * blurred(low_dose(full) - full, 3.0)
    found = judge_lesions(lesions, PIXEL_MM, with_lesions=loud, without=loud, low=loud, full=full)
    assert not any(trial.invented for trial in found)


@settings(deadline=None, max_examples=20)
@given(share=st.floats(-0.5, 1.5))
def test_the_recovered_share_is_the_share_that_came_through(share: float) -> None:
    full = np.full((1, 64, 64), 40.0, np.float32)
    lesion = InsertedLesion(0, 30, 33, 6.0, -70.0)
    kept = full + np.float32(share) * paint_lesions(full.shape, PIXEL_MM, (lesion,))
    (trial,) = judge_lesions(
        (lesion,), PIXEL_MM, with_lesions=kept, without=full, low=full, full=full
    )
    assert trial.recovered_share == pytest.approx(share, abs=1e-4)
    assert trial.lost == (trial.recovered_share < 0.7)


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 20))
def test_places_are_well_apart_in_uniform_tissue_and_the_same_for_a_seed(
    seed: int, count: int
) -> None:
    full = tissue()
    planned = plan_lesions(full, PIXEL_MM, count=count, seed=seed)
    assert planned == plan_lesions(full, PIXEL_MM, count=count, seed=seed)
    assert 1 <= len(planned) <= count
    for one, other in combinations(planned, 2):
        apart = PIXEL_MM * math.hypot(one.row - other.row, one.column - other.column)
        reach = 0.5 * (one.diameter_mm + other.diameter_mm) + 8.0
        assert one.slice != other.slice or apart > reach
    for lesion in planned:
        reach = 0.5 * lesion.diameter_mm / PIXEL_MM
        assert lesion.row + reach < 60 or lesion.row - reach > 70


def test_no_lesion_is_planted_without_soft_tissue() -> None:
    air = np.full((1, 64, 64), -1000.0, np.float32)
    assert plan_lesions(air, PIXEL_MM, count=5, seed=0) == ()
    assert plan_lesions(air[:, :4, :4] + 1040.0, PIXEL_MM, count=5, seed=0) == ()


def test_a_painted_lesion_has_its_diameter_at_half_contrast() -> None:
    lesion = InsertedLesion(0, 50, 50, 10.0, 80.0)
    line = paint_lesions((1, 101, 101), 0.25, (lesion,))[0, 50]
    assert line[50] == pytest.approx(80.0, abs=1e-3)
    assert line[70] == pytest.approx(40.0, abs=1e-3)
    assert line[0] == 0.0

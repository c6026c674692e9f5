"""The guard: a good result passes, and each fault is named by the check that is made for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from man_core import Check, Finding, GuardLimits, Limit, Verdict, Volume, filters
from man_core.guard import worst
from man_core.guard.inspection import inspect
from man_core.noise_texture import image_power

SIZE, PIXEL_MM, NOISE_HU = 256, 0.8, 25.0

Hu = np.ndarray


def ellipse(row: float, column: float, rows: float, columns: float) -> Hu:
    """Coverage of an ellipse: 1 inside, 0 outside, half-axes in pixels."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    distance = np.hypot((y - row) / rows, (x - column) / columns)
    return np.clip((1.0 - distance) * min(rows, columns) + 0.5, 0.0, 1.0)


def disc(row: float, column: float, diameter_mm: float) -> Hu:
    radius = diameter_mm / PIXEL_MM / 2.0
    return ellipse(row, column, radius, radius)


def smoothed(hu: Hu, sigma: float) -> Hu:
    return filters.gaussian(torch.from_numpy(hu), sigma).numpy()


def anatomy() -> Hu:
    """Two slices of a body: fat around soft tissue, organs, a lung, a vertebra."""
    hu = np.full((SIZE, SIZE), -1000.0)
    shapes = (
        (128, 128, 110, 120, -100.0),
        (128, 128, 85, 95, 50.0),
        (110, 80, 35, 30, 100.0),
        (120, 180, 45, 28, -860.0),
        (185, 128, 22, 24, 500.0),
    )
    for row, column, rows, columns, value in shapes:
        hu += ellipse(row, column, rows, columns) * (value - hu)
    return smoothed(np.stack([hu, np.roll(hu, 3, axis=1)]).astype(np.float32), 0.8)


def noise(cutoff: float = 1.1) -> Hu:
    gain = np.sqrt(image_power(SIZE, SIZE, cutoff))
    white = np.random.default_rng(1).normal(size=(2, SIZE, SIZE))
    shaped = np.fft.ifft2(np.fft.fft2(white) * gain).real
    return (shaped / shaped.std() * NOISE_HU).astype(np.float32)


TRUTH, NOISE = anatomy(), noise()
SOURCE = np.maximum(TRUTH + NOISE, -1024.0)
GOOD = np.maximum(TRUTH + 0.3 * NOISE, -1024.0)


def volume(hu: Hu) -> Volume:
    return Volume(hu, (3.0, PIXEL_MM, PIXEL_MM), np.diag([3.0, PIXEL_MM, PIXEL_MM, 1.0]))


def findings(result: Hu, source: Hu = SOURCE) -> dict[Check, Finding]:
    return {finding.check: finding for finding in inspect(volume(source), result)}


def objections(result: Hu, source: Hu = SOURCE) -> dict[Check, Verdict]:
    found = findings(result, source)
    return {check: one.verdict for check, one in found.items() if one.verdict is not Verdict.OK}


def inside(tissue: str) -> Hu:
    ranges = {"fat": (-110.0, -90.0), "soft_tissue": (40.0, 110.0), "bone": (480.0, 520.0)}
    low, high = ranges[tissue]
    return ((low < TRUTH) & (high > TRUTH)).astype(np.float32)


def test_a_good_result_and_the_source_itself_pass() -> None:
    assert objections(GOOD) == {}
    assert objections(SOURCE) == {}
    assert set(findings(GOOD)) == set(Check)


def test_a_perfect_result_passes() -> None:
    """The truth with little noise: no anatomy appears in the residual."""
    found = findings(TRUTH + 0.15 * noise(cutoff=2.0))
    assert worst(found.values()) is Verdict.OK
    assert abs(found[Check.STRONG_EDGES].value or 0.0) < 0.2


@pytest.mark.parametrize(("sigma", "verdict"), [(0.5, Verdict.FLAG), (0.7, Verdict.BLOCK)])
def test_a_blur_is_found_at_the_edges_and_measured(sigma: float, verdict: Verdict) -> None:
    found = findings(smoothed(SOURCE, sigma))[Check.STRONG_EDGES]
    assert found.verdict is verdict
    assert found.value == pytest.approx(sigma, rel=0.15)


def test_sharpening_is_found_too() -> None:
    sharper = GOOD + 1.5 * (GOOD - smoothed(GOOD, 0.8))
    found = findings(sharper)[Check.STRONG_EDGES]
    assert found.verdict is Verdict.BLOCK
    assert found.value is not None
    assert found.value < 0
    assert "sharpened" in found.sentence


@pytest.mark.parametrize(
    ("tissue", "shift", "verdict"),
    [
        ("fat", 5.0, Verdict.BLOCK),
        ("fat", -3.0, Verdict.FLAG),
        ("soft_tissue", -6.0, Verdict.BLOCK),
        ("bone", 16.0, Verdict.BLOCK),
    ],
)
def test_a_shift_in_one_tissue_is_named(tissue: str, shift: float, verdict: Verdict) -> None:
    shifted = GOOD + shift * smoothed(inside(tissue), 2.0)
    drifts = {check: one for check, one in objections(shifted).items() if "drift" in check}
    assert drifts == {Check(f"drift_{tissue}"): verdict}


def test_air_that_noise_has_clipped_is_not_called_a_shift() -> None:
    """Clipped noise raises the mean of air; a denoiser that lowers it is right."""
    source = np.maximum(TRUTH + 3.0 * NOISE, -1024.0)
    assert (source - TRUTH)[TRUTH < -990].mean() > 10.0
    assert objections(np.maximum(TRUTH + 0.6 * NOISE, -1024.0), source) == {}


@pytest.mark.parametrize("contrast", [80.0, -80.0])
def test_a_lesion_that_vanishes_or_appears_is_a_coherent_residual(contrast: float) -> None:
    lesion = np.zeros_like(TRUTH)
    lesion[1] = contrast * disc(160, 80, 8.0)
    lost = findings(GOOD, SOURCE + lesion)[Check.COHERENCE]
    invented = findings(GOOD + lesion)[Check.COHERENCE]
    kept = objections(GOOD + lesion, SOURCE + lesion)
    assert (lost.verdict, invented.verdict, kept) == (Verdict.BLOCK, Verdict.BLOCK, {})
    assert "in slice 2" in lost.sentence
    assert ("lower" if contrast > 0 else "higher") in lost.sentence


def test_a_lung_nodule_that_vanishes_is_found() -> None:
    nodule = 300.0 * disc(120, 180, 6.0).astype(np.float32)
    assert objections(GOOD, SOURCE + nodule)[Check.COHERENCE] is Verdict.BLOCK


def test_added_noise_and_a_plastic_look_are_named() -> None:
    noisier = TRUTH + 1.4 * NOISE
    assert Check.NOISE in objections(noisier)
    source = TRUTH + 2.5 * NOISE
    assert objections(TRUTH + 0.1 * NOISE, source)[Check.PLASTIC] is not Verdict.OK


def test_what_is_no_image_is_blocked_at_once() -> None:
    broken = GOOD.copy()
    broken[0, 5, 7] = math.nan
    assert objections(broken) == {Check.FINITE: Verdict.BLOCK}
    assert objections(GOOD[:1]) == {Check.SHAPE: Verdict.BLOCK}


def test_values_far_out_of_the_sources_range_are_named() -> None:
    wild = GOOD.copy()
    wild[1, 128, 128] = 4000.0
    assert objections(wild)[Check.OVERSHOOT] is Verdict.BLOCK


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 8, 40), (1, 33, 47)])
def test_small_and_empty_images_hold_nothing_to_object_to(shape: tuple[int, int, int]) -> None:
    air = np.full(shape, -1000.0, np.float32)
    found = {one.check: one for one in inspect(volume(air), air)}
    assert worst(found.values()) is Verdict.OK
    assert found[Check.COHERENCE].value is None


@pytest.mark.parametrize("source", [TRUTH, np.full_like(TRUTH, 40.0)], ids=["body", "plain"])
@pytest.mark.parametrize("change", ["everywhere", "spot", "rounding", "half"])
def test_a_change_of_1_hu_in_an_image_without_noise_is_no_fault(source: Hu, change: str) -> None:
    by_hu = {
        "everywhere": np.ones_like(source),
        "spot": np.stack([disc(110, 80, 8.0)] * 2),
        "rounding": np.random.default_rng(0).choice([-1.0, 1.0], source.shape),
        "half": np.where(np.arange(SIZE) < SIZE // 2, 1.0, 0.0) + np.zeros_like(source),
    }[change]
    assert objections((source + by_hu).astype(np.float32), source) == {}


def test_a_lesion_taken_out_of_an_image_without_noise_is_found() -> None:
    without = TRUTH - 20.0 * np.stack([disc(110, 80, 8.0)] * 2)
    found = findings(without.astype(np.float32), TRUTH)
    assert found[Check.COHERENCE].verdict is Verdict.BLOCK


def test_the_batches_do_not_change_the_figures() -> None:
    """Slices enter sums one after the other: twice the series gives the same findings."""
    once = findings(GOOD)
    twice = findings(np.concatenate([GOOD, GOOD]), np.concatenate([SOURCE, SOURCE]))
    for check in (Check.STRONG_EDGES, Check.FAINT_EDGES, Check.DRIFT_FAT, Check.COHERENCE):
        assert twice[check].value == pytest.approx(once[check].value, rel=0.02, abs=0.02)


SEVERITY: Callable[[Verdict], int] = list(Verdict).index
POSITIVE = st.floats(0.0, 1e4)


@given(st.floats(-1e4, 1e4), POSITIVE, POSITIVE, POSITIVE, POSITIVE)
def test_wider_limits_never_give_a_worse_verdict(
    value: float, flag: float, further: float, wider: float, allowance: float
) -> None:
    limit = Limit(flag, flag + further)
    wide = Limit(flag + wider, flag + further + wider)
    narrow_verdict, crossed = limit.judge(value)
    assert SEVERITY(wide.judge(value)[0]) <= SEVERITY(narrow_verdict)
    assert SEVERITY(limit.judge(value, allowance)[0]) <= SEVERITY(narrow_verdict)
    assert (abs(value) > crossed) == (narrow_verdict is not Verdict.OK)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.0, 3.0), st.floats(0.0, 3.0))
def test_a_larger_fault_never_gets_a_better_verdict(one: float, other: float) -> None:
    small, large = sorted((one, other))
    limit = GuardLimits().drift_fat
    assert SEVERITY(limit.judge(-small)[0]) <= SEVERITY(limit.judge(-large)[0])


def test_what_is_no_number_is_blocked() -> None:
    assert Limit(1.0, 2.0).judge(math.nan)[0] is Verdict.BLOCK


@pytest.mark.parametrize("pair", [(2.0, 1.0), (-1.0, 1.0), (math.nan, 1.0)])
def test_impossible_limits_are_refused(pair: tuple[float, float]) -> None:
    with pytest.raises(
        ValueError, match=r"coherence needs a limit to flag of at least 0 and one to block"
    ):
        replace(GuardLimits(), coherence=Limit(*pair))


def test_every_check_but_two_has_its_limit() -> None:
    assert {field.name for field in fields(GuardLimits)} == set(Check) - {"shape", "finite"}

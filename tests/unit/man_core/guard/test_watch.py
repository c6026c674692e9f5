"""A series that is measured in parts gives the figures of the whole, in whatever parts it comes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ct_factory import ellipse, outside_circle

from man_core import GuardLimits, Volume
from man_core.guard.inspection import Inspection, inspect
from man_core.guard.watch import Watch
from man_core.noise import NoiseSample, estimate_noise_and_texture, sampled_slices
from man_core.slices import ArraySlices

SLICES, SIZE, PIXEL_MM = 34, 64, 0.8
SOURCE = ellipse(SLICES, SIZE, noise_hu=25.0)
RESULT = SOURCE + np.random.default_rng(1).normal(1.0, 4.0, SOURCE.shape).astype(np.float32)
PADDING = np.broadcast_to(outside_circle(SIZE, SIZE), SOURCE.shape)
BEFORE, AFTER = estimate_noise_and_texture(SOURCE), estimate_noise_and_texture(RESULT)
VOLUME = Volume(SOURCE, (3.0, PIXEL_MM, PIXEL_MM), np.diag([3.0, PIXEL_MM, PIXEL_MM, 1.0]))
EXPECTED = {
    True: inspect(VOLUME, RESULT, before=BEFORE, after=AFTER, padding=PADDING),
    False: inspect(VOLUME, RESULT, before=BEFORE, after=AFTER),
}
"""Findings of the whole series, with and without padding."""


@st.composite
def partitions(draw: st.DrawFn) -> list[slice]:
    """Cut a series into parts at any places."""
    cuts = draw(st.sets(st.integers(1, SLICES - 1)))
    return [slice(*ends) for ends in pairwise([0, *sorted(cuts), SLICES])]


@settings(max_examples=5, deadline=None)
@given(partitions(), st.booleans())
def test_the_parts_do_not_change_the_findings(parts: list[slice], padded: bool) -> None:
    padding = PADDING if padded else None
    inspection = Inspection(PIXEL_MM, BEFORE, GuardLimits())
    for part in parts:
        void = None if padding is None else padding[part]
        inspection.add(part.start, SOURCE[part], RESULT[part], void)
    assert inspection.findings(AFTER) == EXPECTED[padded]


@settings(max_examples=5, deadline=None)
@given(partitions())
def test_the_parts_do_not_change_the_noise(parts: list[slice]) -> None:
    sample = NoiseSample(SLICES)
    for part in parts:
        sample.add(part.start, RESULT[part])
    assert sample.estimate() == AFTER


def test_noise_is_measured_in_few_slices_of_a_long_series() -> None:
    assert sampled_slices(3) == (0, 1, 2)
    found = sampled_slices(3000)
    assert (len(found), found[0], found[-1]) == (32, 0, 2999)
    assert max(np.diff(found)) - min(np.diff(found)) <= 1


def test_a_watch_finds_what_the_guard_finds_in_the_whole() -> None:
    with Watch(ArraySlices(SOURCE, PADDING), PIXEL_MM, GuardLimits(), "cpu") as watch:
        for first in range(0, SLICES, 7):
            part = slice(first, first + 7)
            watch.put(first, SOURCE[part], RESULT[part], PADDING[part])
        after, findings = watch.finish()
    assert (watch.before, after) == (BEFORE, AFTER)
    assert findings == EXPECTED[True]
    assert watch.seconds > 0.0


def test_a_fault_in_the_guard_reaches_the_denoiser() -> None:
    with Watch(ArraySlices(SOURCE), PIXEL_MM, GuardLimits(), "cpu") as watch:
        watch.put(0, SOURCE[:1], RESULT[:1, :-1], None)
        with pytest.raises(RuntimeError, match="size"):
            watch.finish()


def test_a_device_that_fails_at_the_start_of_the_thread_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(watch: Watch) -> None:
        raise torch.AcceleratorError("the device is lost")

    monkeypatch.setattr(Watch, "_prepare_thread", fails)
    with Watch(ArraySlices(SOURCE), PIXEL_MM, GuardLimits(), "cpu") as watch:
        watch.put(0, SOURCE[:1], RESULT[:1], None)
        with pytest.raises(torch.AcceleratorError, match="lost"):
            watch.finish()

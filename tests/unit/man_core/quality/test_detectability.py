from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from man_core.quality import detectability, dog_channels

SIDE = 24
NOISE_HU = 10.0


def signal(contrast: float, radius: float = 3.5) -> NDArray[np.float64]:
    line = np.arange(SIDE) - 0.5 * (SIDE - 1)
    return contrast * (np.hypot(line[:, None], line[None, :]) < radius)


def white(pairs: int, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.0, NOISE_HU, (pairs, SIDE, SIDE))


def analytic(contrast: float, noise_hu: float = NOISE_HU) -> float:
    """d'^2 = s' U (U' U var)^-1 U' s for white noise."""
    channels = dog_channels(SIDE).reshape(-1, SIDE * SIDE)
    seen = channels @ signal(contrast).ravel()
    gram = channels @ channels.T * noise_hu**2
    return math.sqrt(float(seen @ np.linalg.solve(gram, seen)))


@pytest.mark.parametrize("contrast", [3.0, 8.0, -8.0])
def test_white_noise_gives_the_analytic_value(contrast: float) -> None:
    found = [
        detectability(signal(contrast) + noise, noise)
        for noise in (white(300, seed) for seed in range(6))
    ]
    assert np.mean(found) == pytest.approx(analytic(contrast), rel=0.05)


def test_other_noise_for_either_image_gives_the_same_on_average() -> None:
    found = [
        detectability(signal(8.0) + white(300, seed), white(300, seed + 100)) for seed in range(8)
    ]
    assert np.mean(found) == pytest.approx(analytic(8.0), rel=0.07)


def test_without_a_signal_there_is_almost_nothing_to_detect() -> None:
    found = [detectability(white(400, seed), white(400, seed + 100)) for seed in range(10)]
    assert np.mean(found) < 0.2


def test_no_invertible_filter_changes_what_the_noise_hides() -> None:
    noise = white(400, 1)
    present = signal(8.0) + noise
    assert detectability(0.2 * present + 30.0, 0.2 * noise + 30.0) == pytest.approx(
        detectability(present, noise)
    )


@settings(deadline=None, max_examples=10)
@given(count=st.integers(2, 8), side=st.integers(16, 40))
def test_channels_see_no_constant_and_are_centred(count: int, side: int) -> None:
    channels = dog_channels(side, count)
    assert np.abs(channels.sum(axis=(1, 2))).max() < 1e-6
    assert (channels**2).sum(axis=(1, 2)) == pytest.approx(np.ones(count))
    assert channels == pytest.approx(channels[:, ::-1, ::-1])


def test_too_few_or_unequal_images_are_refused() -> None:
    with pytest.raises(ValueError, match="40 pairs, got 20"):
        detectability(white(20, 0), white(20, 1))
    with pytest.raises(ValueError, match="do not match"):
        detectability(white(50, 0), white(60, 1))

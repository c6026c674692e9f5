"""The observer against closed forms: white noise, where the ideal linear observer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from man_core.physics.phantom.cct189 import CCT189_DISCS, Disc
from man_core.physics.phantom.rods import PIXEL_MM
from man_core.quality import channel_responses, gabor_channels, laguerre_gauss_channels
from training.assess.observer import observe

Image = NDArray[np.float64]

SIDE = 23
NOISE_HU = 14.0
IMAGES = 200


def disc_of(disc: Disc) -> Image:
    line = np.arange(SIDE) - 0.5 * (SIDE - 1)
    distance = PIXEL_MM * np.hypot(line[:, None], line[None, :])
    return disc.contrast_hu * np.clip((0.5 * disc.diameter_mm - distance) / PIXEL_MM + 0.5, 0, 1)


def white(seed: int, mean: Image | float = 0.0) -> Image:
    return mean + np.random.default_rng(seed).normal(0.0, NOISE_HU, (IMAGES, SIDE, SIDE))


def laguerre(disc: Disc) -> Image:
    return laguerre_gauss_channels(SIDE, disc.diameter_mm / 3.0 / PIXEL_MM)


def ideal(signal: Image) -> float:
    """d' of the ideal observer of a known signal in white noise."""
    return math.sqrt((signal**2).sum()) / NOISE_HU


def of_channels(signal: Image, channels: Image) -> float:
    """d'^2 = s' U (U' U var)^-1 U' s: what no number of images exceeds."""
    flat = channels.reshape(len(channels), -1)
    seen = flat @ signal.ravel()
    return math.sqrt(float(seen @ np.linalg.solve(flat @ flat.T, seen))) / NOISE_HU


@pytest.mark.parametrize("disc", CCT189_DISCS)
def test_laguerre_gauss_channels_come_near_the_ideal_observer_and_gabor_stay_below(
    disc: Disc,
) -> None:
    signal = disc_of(disc)
    laguerre_gauss = of_channels(signal, laguerre(disc)) / ideal(signal)
    gabor = of_channels(signal, gabor_channels(SIDE)) / ideal(signal)
    assert 0.9 < laguerre_gauss < 1.0
    assert 0.5 < gabor < laguerre_gauss


@pytest.mark.parametrize("disc", CCT189_DISCS)
@pytest.mark.parametrize("gabor", [False, True])
def test_intervals_cover_the_closed_form_and_estimates_have_no_bias(
    disc: Disc, gabor: bool
) -> None:
    signal, channels = disc_of(disc), gabor_channels(SIDE) if gabor else laguerre(disc)
    true, found = of_channels(signal, channels), []
    for seed in range(0, 60, 2):
        seen, unseen = white(seed, signal), white(seed + 1)
        found.append(
            observe(channel_responses(seen, channels), channel_responses(unseen, channels))
        )
    known = [each for each in found if each is not None]
    assert np.mean([each.d for each in known]) == pytest.approx(true, rel=0.07)
    covered = sum(each.interval[0] <= true <= each.interval[1] for each in known)
    assert covered >= 25
    assert all(each.interval[0] <= each.d <= each.interval[1] for each in known)


def test_without_a_signal_chance_lies_within_the_interval() -> None:
    channels = laguerre(CCT189_DISCS[1])
    for seed in range(0, 20, 2):
        seen, unseen = (channel_responses(white(n), channels) for n in (seed, seed + 1))
        found = observe(seen, unseen)
        assert found is not None
        assert found.auc < 0.65
        if found.d == 0.0:
            assert found.auc_interval[0] == found.auc == 0.5


def test_auc_is_that_of_normal_ratings() -> None:
    channels = laguerre(CCT189_DISCS[0])
    seen, unseen = white(0, disc_of(CCT189_DISCS[0])), white(1)
    found = observe(channel_responses(seen, channels), channel_responses(unseen, channels))
    assert found is not None
    assert found.auc == pytest.approx(0.5 * (1.0 + math.erf(found.d / 2.0)))
    assert found.auc_interval[0] < found.auc < found.auc_interval[1]


def test_too_few_images_for_the_channels_give_nothing() -> None:
    assert observe(np.ones((10, 5)), np.ones((14, 5))) is None
    assert observe(np.ones((1, 2)), np.ones((30, 2))) is None

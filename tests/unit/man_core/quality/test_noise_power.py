from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from man_core.noise_texture import image_power, ramp_power
from man_core.quality import (
    NoisePower,
    difference_noise_power,
    noise_power,
    tissue_noise_power,
)

PIXEL_MM = 0.7
NOISE_HU = 12.0


def white(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.0, NOISE_HU, shape)


def ramp_filtered(shape: tuple[int, int, int], cutoff: float) -> NDArray[np.float64]:
    gain = np.sqrt(image_power(*shape[1:], cutoff))
    noise = np.fft.ifft2(np.fft.fft2(white(shape)) * gain).real
    return noise * NOISE_HU / noise.std()


def theoretical_peak(cutoff: float) -> float:
    f = np.linspace(0.001, 0.7, 4000)
    return float(f[np.argmax(ramp_power(f, cutoff))]) / PIXEL_MM


def test_white_noise_is_flat_at_its_variance_times_the_pixel() -> None:
    found = difference_noise_power(
        white((4, 256, 256)), PIXEL_MM, np.ones((4, 256, 256), dtype=np.bool_)
    )
    expected = NOISE_HU**2 * PIXEL_MM**2
    assert found.power[1:] == pytest.approx(np.full(15, expected), rel=0.1)
    assert found.frequency[-1] == pytest.approx(0.5 / PIXEL_MM)


@settings(deadline=None, max_examples=15)
@given(pixel_mm=st.floats(0.3, 2.0), side=st.integers(8, 40), seed=st.integers(0, 1000))
def test_the_spectrum_sums_to_the_variance(pixel_mm: float, side: int, seed: int) -> None:
    regions = white((3, side, side), seed)
    step = 1.0 / (side * pixel_mm)
    line = np.linspace(-1, 1, side)
    y, x = np.meshgrid(line, line, indexing="ij")
    surface = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], -1).reshape(-1, 6)
    flat = regions.reshape(3, -1).T
    left = flat - surface @ np.linalg.lstsq(surface, flat, rcond=None)[0]
    assert noise_power(regions, pixel_mm).sum() * step**2 == pytest.approx(np.mean(left**2))


@pytest.mark.parametrize("cutoff", [0.8, 1.2, 1.6])
def test_filtered_noise_peaks_where_theory_says(cutoff: float) -> None:
    shape = (6, 256, 256)
    found = difference_noise_power(
        ramp_filtered(shape, cutoff), PIXEL_MM, np.ones(shape, dtype=np.bool_)
    )
    assert found.peak == pytest.approx(theoretical_peak(cutoff), rel=0.07)
    assert found.peak < found.mean


def test_what_is_outside_the_mask_does_not_count() -> None:
    difference = white((2, 128, 128))
    within = np.zeros(difference.shape, dtype=np.bool_)
    within[:, 20:100, 30:110] = True
    loud = np.where(within, difference, 1000.0 * difference)
    found = difference_noise_power(loud, PIXEL_MM, within)
    assert np.array_equal(found.power, difference_noise_power(difference, PIXEL_MM, within).power)


@pytest.mark.parametrize("side", [16, 64])
def test_without_a_region_there_is_neither_peak_nor_mean(side: int) -> None:
    found = difference_noise_power(
        white((1, side, side)), PIXEL_MM, np.zeros((1, side, side), dtype=np.bool_)
    )
    assert not found.power.any()
    assert math.isnan(found.peak)
    assert math.isnan(found.mean)


def test_noise_in_tissue_is_measured_in_the_patches_of_the_other_image() -> None:
    noise = ramp_filtered((3, 128, 128), 1.2)
    full, half = 50.0 + noise, 50.0 + 0.5 * noise
    own, other = (tissue_noise_power(hu, PIXEL_MM, full) for hu in (full, half))
    assert other.power == pytest.approx(0.25 * own.power)
    assert other.peak == pytest.approx(own.peak)
    assert own.peak == pytest.approx(theoretical_peak(1.2), rel=0.2)
    assert not tissue_noise_power(full - 1050.0, PIXEL_MM).power.any()


@settings(deadline=None, max_examples=30)
@given(peak=st.floats(0.12, 0.6), width=st.floats(0.1, 0.4))
def test_the_peak_is_found_between_the_rings(peak: float, width: float) -> None:
    frequency = np.arange(1, 17) / 22.4
    found = NoisePower(frequency, np.exp(-(((frequency - peak) / width) ** 2)))
    assert found.peak == pytest.approx(peak, abs=0.015)

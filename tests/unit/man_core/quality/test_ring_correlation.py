from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from man_core.quality import PATCH_PIXELS, agreement_frequency, ring_correlation

PIXEL_MM = 0.8
LAST = PATCH_PIXELS // 2 - 1


def noise(seed: int, count: int = 40) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.0, 20.0, (count, PATCH_PIXELS, PATCH_PIXELS))


def frequency(correlation: list[float]) -> float:
    curve = np.array([correlation])
    return float(agreement_frequency(curve, PATCH_PIXELS, PIXEL_MM)[0]) * PATCH_PIXELS * PIXEL_MM


def test_equal_patches_agree_at_every_frequency_whatever_their_mean_and_contrast() -> None:
    patches = noise(1)
    correlation = ring_correlation(patches, 3.0 * patches + 100.0)
    assert correlation.shape == (len(patches), LAST)
    assert np.allclose(correlation, 1.0)
    agreed = agreement_frequency(correlation, PATCH_PIXELS, PIXEL_MM)
    assert np.allclose(agreed, LAST / (PATCH_PIXELS * PIXEL_MM))


def test_independent_noise_does_not_correlate() -> None:
    correlation = ring_correlation(noise(1), noise(2))
    assert abs(correlation.mean()) < 0.02
    assert np.abs(correlation[:, -1]).max() < 0.5


def test_the_opposite_image_anticorrelates_and_agrees_nowhere() -> None:
    correlation = ring_correlation(noise(1), -noise(1))
    assert np.allclose(correlation, -1.0)
    agreed = agreement_frequency(correlation, PATCH_PIXELS, PIXEL_MM)
    assert np.allclose(agreed, 0.25 / (PATCH_PIXELS * PIXEL_MM))


def test_a_wave_of_the_same_frequency_is_found_in_its_ring_alone() -> None:
    line = np.arange(PATCH_PIXELS)
    wave = np.broadcast_to(
        np.sin(2 * np.pi * 8 * line / PATCH_PIXELS), (1, PATCH_PIXELS, PATCH_PIXELS)
    )
    correlation = ring_correlation(noise(1, 1) + 100 * wave, noise(2, 1) + 100 * wave)
    assert correlation[0, 7] > 0.98
    assert np.abs(np.delete(correlation, [6, 7, 8], axis=1)[:, 2:]).max() < 0.6


def test_the_frequency_of_agreement_is_interpolated_between_rings() -> None:
    assert frequency([1.0, 1.0, 0.8, 0.2, 0.9]) == pytest.approx(3.5)
    assert frequency([0.0, 1.0, 1.0]) == pytest.approx(0.5)
    assert frequency([0.5, 0.5, 0.5]) == pytest.approx(3.0)


def test_an_empty_patch_has_no_correlation() -> None:
    assert (ring_correlation(np.zeros_like(noise(1)), noise(1)) == 0.0).all()
    assert ring_correlation(noise(1, 0), noise(1, 0)).shape == (0, LAST)


def test_patches_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        ring_correlation(noise(1, 2), noise(1, 3))

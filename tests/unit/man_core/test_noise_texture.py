"""Texture of noise: equal to a plain formulation, whatever the number of patches."""

from __future__ import annotations

import numpy as np
import pytest

from man_core.noise_texture import (
    autocorrelation,
    band_power,
    candidate_cutoffs,
    match_cutoff,
    model_spectrum,
    periodograms,
    ring_profile,
)

RINGS = np.arange(2, 9, dtype=np.float64)


def misfit(profile: np.ndarray, cutoff: float) -> float:
    """Best non-negative fit: of both components, or else of the better one alone."""
    weight = np.sqrt(RINGS / profile[1:])
    noise = ring_profile(model_spectrum(cutoff, 16))[1:]
    parts, seen = np.stack([noise, RINGS**-3], axis=1) * weight[:, None], profile[1:] * weight
    fits = [np.linalg.lstsq(parts[:, some], seen)[0] for some in ([0, 1], [0], [1])]
    both, *alone = (
        (amounts.min(), float(((seen - parts[:, some] @ amounts) ** 2).sum()))
        for amounts, some in zip(fits, ([0, 1], [0], [1]), strict=True)
    )
    return both[1] if both[0] >= 0.0 else min(left for _, left in alone)


@pytest.mark.parametrize("cutoff", [0.4, 1.1, 3.0])
@pytest.mark.parametrize("anatomy", [0.0, 0.01, 10.0])
def test_the_cutoff_is_the_candidate_of_least_misfit(cutoff: float, anatomy: float) -> None:
    profile = ring_profile(model_spectrum(cutoff, 16)) + anatomy * np.arange(1.0, 9.0) ** -3
    profile *= np.random.default_rng(1).uniform(0.8, 1.2, 8)
    best = min(candidate_cutoffs(), key=lambda one: misfit(profile, one))
    assert match_cutoff(profile) == best


@pytest.mark.parametrize("patches", [1, 128, 300])
def test_autocorrelation_and_power_of_any_number_of_patches(patches: int) -> None:
    residual = np.random.default_rng(2).normal(size=(patches, 16, 16)).cumsum(axis=2)
    along_rows, along_columns = autocorrelation(residual)
    variance = (residual**2).mean()
    for lag in (1, 2, 3):
        rows = (residual[:, :, lag:] * residual[:, :, :-lag]).mean() / variance
        columns = (residual[:, lag:] * residual[:, :-lag]).mean() / variance
        assert (along_rows[lag - 1], along_columns[lag - 1]) == pytest.approx((rows, columns))
    alone = np.concatenate([periodograms(one[None]) for one in residual])
    np.testing.assert_allclose(periodograms(residual), alone, rtol=1e-12)
    assert (band_power(alone) > 0.0).all()

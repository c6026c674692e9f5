"""Images with hardly anything to measure: figures stay finite, and nothing ends in a traceback."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from man_core import Condition, Denoiser, Volume, denoise_volume, load_denoiser, spread_over_seeds
from man_core.noise import (
    estimate_noise_and_texture,
    noise_hu_per_slice,
    radial_noise_power,
    tissue_residuals,
)

NOISE_HU = 20.0


def volume(hu: NDArray[np.floating]) -> Volume:
    return Volume(hu.astype(np.float32), (2.0, 0.8, 0.8), np.diag([2.0, 0.8, 0.8, 1.0]))


def loud(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float64]:
    return 40.0 + np.random.default_rng(seed).normal(0.0, NOISE_HU, shape)


@pytest.fixture(scope="module")
def denoisers() -> dict[str, Denoiser]:
    return {name: load_denoiser(name) for name in ("identity", "man")}


@pytest.mark.parametrize(
    ("rows", "columns", "patches"),
    [(15, 40, 0), (16, 16, 1), (16, 20, 2), (20, 16, 2), (16, 24, 3), (20, 20, 4)],
)
def test_a_few_patches_of_tissue_are_measured(rows: int, columns: int, patches: int) -> None:
    hu = loud((1, rows, columns))
    assert len(tissue_residuals(hu)) == patches
    found = estimate_noise_and_texture(hu)
    assert found.patches == patches
    if patches:
        assert found.std_hu == pytest.approx(NOISE_HU, rel=0.5)
    else:
        assert found.std_hu == 0.0
    assert np.isfinite(found.autocorrelation).all()
    assert np.isfinite(noise_hu_per_slice(hu)).all()
    assert np.isfinite(radial_noise_power(hu, like=hu + 1.0)).all()


@pytest.mark.parametrize("rows", [16, 20])
def test_constant_tissue_has_no_noise(rows: int) -> None:
    assert estimate_noise_and_texture(np.full((1, rows, 20), 40.0)).std_hu < 1e-6


@st.composite
def images(draw: st.DrawFn) -> NDArray[np.float64]:
    shape = draw(st.integers(1, 3)), draw(st.integers(1, 48)), draw(st.integers(1, 48))
    kind = draw(st.sampled_from(["constant", "noise", "steps"]))
    if kind == "constant":
        return np.full(shape, draw(st.sampled_from([-2048.0, -1024.0, -1000.0, 40.0, 3071.0, 3e4])))
    hu = loud(shape, draw(st.integers(0, 99)))
    if kind == "steps":
        hu[:, : draw(st.integers(0, 48))] = -1000.0
        hu[:, :, draw(st.integers(0, 48)) :] = 900.0
    return hu


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(hu=images(), name=st.sampled_from(["identity", "man"]))
def test_any_small_image_goes_through(
    denoisers: dict[str, Denoiser], hu: NDArray[np.float64], name: str
) -> None:
    source = volume(hu)
    result, report = denoise_volume(source, denoisers[name], Condition(), seed=1)
    assert result.shape == source.shape
    assert np.isfinite(result.hu).all()
    json.dumps(report.to_dict(), allow_nan=False)
    if name == "identity":
        np.testing.assert_array_equal(result.hu, source.hu)
        assert report.verdict == "ok"


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 16, 20), (2, 17, 33)])
def test_the_spread_of_small_images_is_finite(
    denoisers: dict[str, Denoiser], shape: tuple[int, int, int]
) -> None:
    spread, _ = spread_over_seeds(
        volume(loud(shape)), denoisers["identity"], Condition(), seeds=range(2)
    )
    assert np.isfinite(spread.hu).all()

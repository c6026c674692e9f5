from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from man_core.physics.phantom.rods import (
    EDGE_SIGMA_MM,
    PIXEL_MM,
    RODS,
    Rod,
    centre_of,
    rod_phantom,
    uniform_water,
)
from man_core.quality import task_transfer


def gaussian_frequency(sigma_mm: float, share: float) -> float:
    """Where exp(-2 (pi sigma f)^2) is a share, cycles/mm."""
    return math.sqrt(-math.log(share) / 2.0) / (math.pi * sigma_mm)


def disc(
    sigma_mm: float, pixel_mm: float, centre: tuple[float, float], contrast: float
) -> NDArray[np.float64]:
    row, column = np.ogrid[:80, :80]
    inside = 12.0 - pixel_mm * np.hypot(row - centre[0], column - centre[1])
    return 40.0 + contrast * 0.5 * np.vectorize(math.erfc)(-inside / (math.sqrt(2) * sigma_mm))


@settings(deadline=None, max_examples=20)
@given(
    sigma_mm=st.floats(0.5, 1.2),
    row=st.floats(38.0, 41.0),
    column=st.floats(38.0, 41.0),
    contrast=st.sampled_from([-100.0, 30.0, 900.0]),
)
def test_a_gaussian_edge_has_the_gaussian_transfer(
    sigma_mm: float, row: float, column: float, contrast: float
) -> None:
    found = task_transfer(disc(sigma_mm, 0.7, (row, column), contrast), 0.7, (row, column), 12.0)
    assert found.at(0.5) == pytest.approx(gaussian_frequency(sigma_mm, 0.5), rel=0.04)
    assert found.at(0.1) == pytest.approx(gaussian_frequency(sigma_mm, 0.1), rel=0.06)
    assert found.contrast_hu == pytest.approx(contrast, rel=0.02)


@pytest.mark.parametrize("rod", RODS, ids=lambda rod: rod.name)
def test_every_rod_of_the_phantom_is_as_sharp_as_painted(rod: Rod) -> None:
    found = task_transfer(rod_phantom(), PIXEL_MM, centre_of(rod), rod.radius_mm)
    assert found.at(0.5) == pytest.approx(gaussian_frequency(EDGE_SIGMA_MM, 0.5), rel=0.04)
    assert found.contrast_hu == pytest.approx(rod.contrast_hu, rel=0.02)


def test_noise_is_averaged_over_the_slices() -> None:
    clean = disc(0.8, 0.7, (39.5, 39.5), 60.0)
    noisy = clean + np.random.default_rng(1).normal(0.0, 15.0, (60, 80, 80))
    found = task_transfer(noisy, 0.7, (39.5, 39.5), 12.0)
    assert found.at(0.5) == pytest.approx(gaussian_frequency(0.8, 0.5), rel=0.1)


def test_a_transfer_that_never_falls_has_no_frequency() -> None:
    found = task_transfer(disc(0.8, 0.7, (39.5, 39.5), 60.0), 0.7, (39.5, 39.5), 12.0)
    assert math.isnan(found.at(-0.1))


def test_an_edge_that_cannot_be_measured_is_refused() -> None:
    flat = np.zeros((80, 80))
    with pytest.raises(ValueError, match="must exceed"):
        task_transfer(flat, 0.7, (40.0, 40.0), 5.0)
    with pytest.raises(ValueError, match="no contrast"):
        task_transfer(flat, 0.7, (40.0, 40.0), 12.0)


def test_the_phantom_is_water_where_it_says_so() -> None:
    hu = rod_phantom()
    assert np.abs(hu[uniform_water()]).max() < 0.01
    assert hu[0, 0] == -1000.0

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from man_core.quality import between_slice_energy, between_slices
from man_core.quality.continuity import body

Hu = NDArray[np.float64]

PIXEL_MM = 0.8
NOISE_HU = 12.0


@pytest.fixture(scope="module")
def anatomy() -> Hu:
    """A body whose brightness drifts along z, without noise, in air."""
    row, column = np.mgrid[:96, :96] - 47.5
    inside = row**2 + column**2 < 40**2
    drift = 50.0 + 25.0 * np.sin(np.arange(8.0))
    return np.where(inside, drift[:, None, None], -1000.0)


def noise(std_hu: float, seed: int, shape: tuple[int, ...]) -> Hu:
    return np.random.default_rng(seed).normal(0.0, std_hu, shape)


def test_the_full_dose_itself_is_ideal(anatomy: Hu) -> None:
    full = anatomy + noise(NOISE_HU, 1, anatomy.shape)
    found = between_slices(full, full, PIXEL_MM)
    assert (found.energy, found.compensated, found.coarse) == (1.0, 1.0, 1.0)


def test_white_noise_gives_twice_its_variance() -> None:
    plain = noise(NOISE_HU, 2, (6, 64, 64))
    energy = between_slice_energy(plain, np.ones(plain.shape, dtype=np.bool_))
    assert energy == pytest.approx(2.0 * NOISE_HU**2, rel=0.05)


def test_less_noise_lowers_the_energy_but_neither_of_the_others(anatomy: Hu) -> None:
    full = anatomy + noise(NOISE_HU, 1, anatomy.shape)
    found = between_slices(anatomy + noise(3.0, 4, anatomy.shape), full, PIXEL_MM)
    assert found.energy < 0.8
    assert found.compensated == pytest.approx(1.0, abs=0.15)
    assert found.coarse == pytest.approx(1.0, abs=0.15)


def test_slices_that_flicker_stand_out_where_noise_does_not(anatomy: Hu) -> None:
    full = anatomy + noise(NOISE_HU, 1, anatomy.shape)
    jumping = anatomy + 20.0 * (-1.0) ** np.arange(8)[:, None, None]
    found = between_slices(jumping, full, PIXEL_MM)
    assert found.coarse > 2.0
    assert found.coarse > 1.5 * found.energy


def test_the_body_holds_its_lungs_and_no_air(anatomy: Hu) -> None:
    chest = anatomy.copy()
    chest[:, 30:60, 30:44] = -850.0
    found = body(chest)
    assert found[:, 45, 37].all()
    assert not found[:, 2, 2].any()


@settings(deadline=None, max_examples=10)
@given(scale=st.floats(0.1, 3.0))
def test_energy_grows_with_the_square_of_the_amplitude(scale: float) -> None:
    full = 40.0 + noise(NOISE_HU, 5, (3, 40, 40))
    assert between_slices(scale * full, full, PIXEL_MM).energy == pytest.approx(scale**2)


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 16, 32)])
def test_what_has_no_neighbours_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        between_slices(np.zeros(shape), np.zeros((shape[0], 32, 32)), PIXEL_MM)

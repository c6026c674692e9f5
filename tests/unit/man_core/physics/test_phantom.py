"""Phantoms: plausible CT whose truth and lesions are known."""

from __future__ import annotations

import numpy as np
import pytest

from man_core import Volume
from man_core.noise import noise_hu, soft_tissue
from man_core.physics.phantom.series import low_dose_phantom, phantom_lesions, phantom_series

ANATOMIES = ("chest", "abdomen", "head")


def at(volume: Volume, point: tuple[float, float, float]) -> float:
    index = np.linalg.inv(volume.affine) @ np.array([*point, 1.0])
    slice_, row, column = np.rint(index[:3]).astype(int)
    return float(np.median(volume.hu[slice_, row - 1 : row + 2, column - 1 : column + 2]))


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_a_phantom_has_air_soft_tissue_and_bone(anatomy) -> None:
    volume = phantom_series(anatomy, slices=3, size=128)
    assert volume.shape == (3, 128, 128)
    assert volume.hu.min() >= -1024
    assert np.mean(volume.hu < -900) > 0.2
    assert np.mean(soft_tissue(volume.hu)) > 0.08
    assert np.mean(volume.hu > 250) > 0.005


@pytest.mark.parametrize("anatomy", ANATOMIES)
def test_lesions_are_where_the_list_says_with_their_contrast(anatomy) -> None:
    volume = phantom_series(anatomy, slices=25, size=192)
    for lesion in phantom_lesions(anatomy):
        if lesion.radius_mm >= 4.0:
            assert at(volume, lesion.at) == pytest.approx(
                lesion.hu, abs=110 if lesion.hu < -200 else 8
            )


def test_the_same_seed_gives_the_same_patient_and_another_seed_another() -> None:
    first, again, other = (phantom_series("chest", slices=2, size=96, seed=s) for s in (3, 3, 4))
    assert np.array_equal(first.hu, again.hu)
    assert not np.array_equal(first.hu, other.hu)


def test_slices_change_smoothly() -> None:
    hu = phantom_series("abdomen", slices=3, size=128, spacing_mm=(1.0, 3.0, 3.0)).hu
    far = phantom_series("abdomen", slices=3, size=128, spacing_mm=(12.0, 3.0, 3.0)).hu
    assert np.abs(np.diff(hu, axis=0)).mean() < 0.5 * np.abs(np.diff(far, axis=0)).mean()


def test_doses_differ_in_noise_as_they_should() -> None:
    pair = low_dose_phantom("abdomen", dose=0.25, noise_hu=15.0, slices=1, size=256, seed=1)
    tissue = soft_tissue(pair.truth.hu)
    full, low = (np.std((v.hu - pair.truth.hu)[tissue]) for v in (pair.full, pair.low))
    assert full == pytest.approx(15.0, rel=0.15)
    assert low / full == pytest.approx(2.0, rel=0.1)


def test_the_noise_estimate_agrees_with_the_known_noise() -> None:
    pair = low_dose_phantom("abdomen", noise_hu=15.0, slices=1, size=384, seed=2)
    assert noise_hu(pair.full.hu) == pytest.approx(15.0, rel=0.15)
    assert noise_hu(pair.low.hu) == pytest.approx(30.0, rel=0.15)


def test_an_unknown_body_part_is_refused() -> None:
    with pytest.raises(ValueError, match="no phantom of 'knee'"):
        phantom_series("knee")  # type: ignore[arg-type]

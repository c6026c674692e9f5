from __future__ import annotations

import numpy as np
import pytest

from dicom_node.ct.slices.geometry import normal_of, stack

AXIAL = (1, 0, 0, 0, 1, 0)
TILTED = (1, 0, 0, 0, 0.9397, 0.342)


def along_z(*places: float) -> np.ndarray:
    return np.array([(-10.0, -20.0, place) for place in places])


def test_slices_are_ordered_along_the_normal_whatever_the_order_they_come_in() -> None:
    result = stack(along_z(7.5, 0.0, 5.0, 2.5), AXIAL, (0.8, 0.7), 3.0)
    assert result.order == (1, 3, 2, 0)
    assert result.spacing_mm == (2.5, 0.8, 0.7)
    assert result.regular
    np.testing.assert_allclose(result.affine @ (2, 3, 4, 1), (-10 + 2.8, -20 + 2.4, 5.0, 1))


def test_order_runs_against_z_when_the_normal_does() -> None:
    feet_up = (1, 0, 0, 0, -1, 0)
    assert stack(along_z(0, 5, 10), feet_up, (1, 1), 5.0).order == (2, 1, 0)


def test_a_tilted_gantry_shears_the_affine() -> None:
    result = stack(along_z(0, 5, 10), TILTED, (1, 1), 5.0)
    np.testing.assert_allclose(result.affine[:3, 0], (0, 0, 5))
    assert result.regular


def test_one_slice_takes_its_thickness() -> None:
    result = stack(along_z(3), AXIAL, (1, 1), 4.0)
    assert result.spacing_mm[0] == 4.0
    assert result.regular


def test_a_sample_of_slices_is_not_regular() -> None:
    result = stack(along_z(0, 72, 106, 214, 310, 314), AXIAL, (1, 1), 3.0)
    assert not result.regular


def test_directions_must_be_perpendicular_unit_vectors() -> None:
    with pytest.raises(ValueError, match="perpendicular"):
        normal_of((1, 0, 0, 1, 0, 0))

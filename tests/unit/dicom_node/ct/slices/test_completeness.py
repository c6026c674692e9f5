"""What a series' own headers say about images that have not come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from dicom_node.ct.slices.completeness import Completeness, completeness_of

WHOLE = Completeness()


def image(number: int | None, place_mm: float, **attributes: object) -> Dataset:
    header = Dataset()
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.ImagePositionPatient = [-10, -20, place_mm]
    if number is not None:
        header.InstanceNumber = number
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    return header


def series(numbers: Sequence[int], spacing_mm: float = 2.5, **attributes: object) -> list[Dataset]:
    return [image(number, number * spacing_mm, **attributes) for number in numbers]


@pytest.mark.parametrize("numbers", [range(1, 9), [5, 1, 3, 2, 4], [1], [1, 2], []])
def test_an_even_series_is_whole_in_any_order(numbers: Sequence[int]) -> None:
    assert completeness_of(series(numbers)) == WHOLE


def test_a_hole_is_named_by_its_neighbours() -> None:
    found = completeness_of(series([1, 2, 3, 4, 6, 7]))
    assert found == Completeness("1 slice is missing between images 4 and 6")


def test_several_holes_are_counted_one_by_one_and_the_rest_together() -> None:
    assert completeness_of(series([1, 2, 3, 6, 7, 9])).missing == (
        "3 slices are missing between images 3 and 6 (2), between images 7 and 9 (1)"
    )
    pairs = [number for start in range(0, 70, 10) for number in (*range(start, start + 9),)]
    assert completeness_of(series(pairs)).missing.endswith(" and at 1 more place")


def test_images_without_numbers_are_named_by_their_place() -> None:
    images = [image(None, place) for place in (0.0, 1.0, 2.0, 4.0)]
    assert completeness_of(images).missing == "1 slice is missing after slice 3 of 4"


def test_a_change_of_spacing_is_the_scanners_own() -> None:
    images = [image(None, place) for place in (0.0, 1.0, 2.0, 3.0, 5.35)]
    assert completeness_of(images) == WHOLE


def test_uneven_distances_are_a_doubt() -> None:
    images = [image(None, place) for place in (0.0, 1.0, 9.0, 30.0)]
    assert completeness_of(images) == Completeness(doubt="the slices lie at uneven distances")


def test_the_count_of_the_series_is_proof() -> None:
    found = completeness_of(series([1, 2, 3], NumberOfSeriesRelatedInstances=5))
    assert found == Completeness("3 of 5 images have come (NumberOfSeriesRelatedInstances)")
    assert completeness_of(series([1, 2, 3], NumberOfSeriesRelatedInstances=3)) == WHOLE


def test_the_count_of_the_acquisition_is_a_doubt() -> None:
    """It may count other reconstructions of the same acquisition, too."""
    found = completeness_of(series([1, 2, 3], ImagesInAcquisition=6, AcquisitionNumber=1))
    assert found == Completeness(doubt="3 of 6 images have come (ImagesInAcquisition)")


def test_each_acquisition_has_its_own_count() -> None:
    first = series([1, 2, 3], ImagesInAcquisition=3, AcquisitionNumber=1)
    second = series([4, 5], ImagesInAcquisition=2, AcquisitionNumber=2)
    assert completeness_of(first + second) == WHOLE
    assert completeness_of(first + second[:1]).doubt


@pytest.mark.parametrize("count", [0, -3, 2, "many", ""])
@pytest.mark.parametrize("keyword", ["ImagesInAcquisition", "NumberOfSeriesRelatedInstances"])
def test_a_count_that_cannot_be_right_is_no_evidence(keyword: str, count: object) -> None:
    images = series([1, 2, 3])
    for one in images:
        one.add_new(keyword, "LO", str(count))
    assert completeness_of(images) == WHOLE


def test_counts_that_contradict_each_other_are_no_evidence() -> None:
    images = series([1, 2, 3], ImagesInAcquisition=9)
    images[0].ImagesInAcquisition = 10
    assert completeness_of(images) == WHOLE


def test_what_is_never_denoised_waits_for_nothing() -> None:
    scout = series([1, 2, 3, 9], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert completeness_of(scout) == WHOLE


@pytest.mark.parametrize(
    "damage",
    [
        {"ImagePositionPatient": None},
        {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
        {"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]},
    ],
)
def test_damaged_geometry_is_left_to_the_job_to_tell(damage: dict[str, object]) -> None:
    images = series([1, 2, 3, 5])
    for keyword, value in damage.items():
        setattr(images[0], keyword, value)
    assert completeness_of(images) == WHOLE


def test_several_phases_at_one_place_are_left_to_the_job_to_tell() -> None:
    assert completeness_of(series([1, 2, 3, 3, 5])) == WHOLE


@given(data=st.data(), slices=st.integers(6, 40), spacing_mm=st.floats(0.3, 10))
def test_a_slice_missing_inside_is_always_seen_and_one_at_an_end_never(
    data: st.DataObject, slices: int, spacing_mm: float
) -> None:
    """Whatever the order, the direction and the tilt of the gantry."""
    gone = data.draw(st.integers(1, slices))
    tilt = np.deg2rad(data.draw(st.floats(-30, 30)))
    upwards = data.draw(st.sampled_from([1, -1]))
    rng = np.random.default_rng(slices)
    images = [
        image(
            number,
            round(number * spacing_mm * upwards, 3),
            ImageOrientationPatient=[1, 0, 0, 0, np.cos(tilt), np.sin(tilt)],
        )
        for number in rng.permutation(np.arange(1, slices + 1)).tolist()
        if number != gone
    ]
    expected = f"1 slice is missing between images {gone - 1} and {gone + 1}"
    assert completeness_of(images).missing == ("" if gone in (1, slices) else expected)

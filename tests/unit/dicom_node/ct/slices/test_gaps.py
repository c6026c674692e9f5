"""Gaps: judged by thickness, acquisition, local spacing and instance numbers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from dicom_node.ct.slices.completeness import Completeness, completeness_of
from dicom_node.ct.slices.gaps import find_gaps

WHOLE = Completeness()

Scan = list[Dataset]


def image(
    place_mm: float, thickness: float | None = None, acquisition: int | None = None
) -> Dataset:
    header = Dataset()
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.ImagePositionPatient = [-10, -20, round(place_mm, 3)]
    header.SliceThickness = thickness
    if acquisition is not None:
        header.AcquisitionNumber = acquisition
    return header


def numbered(images: Scan) -> Scan:
    for number, header in enumerate(images, start=1):
        header.InstanceNumber = number
    return images


def stack(*distances_mm: float, thickness: float | None = None, first_mm: float = 0.0) -> Scan:
    return [image(place, thickness) for place in accumulate((first_mm, *distances_mm))]


def of_places(*places_mm: float) -> np.ndarray:
    return np.array(places_mm, np.float64)


def uniform(slices: int) -> Scan:
    return stack(*[2.5] * (slices - 1), thickness=2.5)


def overlapping(slices: int) -> Scan:
    """Reconstructed at half the thickness."""
    return stack(*[2.5] * (slices - 1), thickness=5.0)


def gapped(slices: int) -> Scan:
    """High-resolution lung: 1 mm every 10 mm."""
    return stack(*[10.0] * (slices - 1), thickness=1.0)


def unstated(slices: int) -> Scan:
    return stack(*[3.0] * (slices - 1))


def head(slices: int, between_mm: float = 5.0) -> Scan:
    """Thin slices below and thick ones above, as in B01."""
    thin = stack(*[2.5] * (slices - 1), thickness=2.5)
    top = float(thin[-1].ImagePositionPatient[2])
    thick = stack(*[5.0] * (slices - 1), thickness=5.0, first_mm=top + between_mm)
    return thin + thick


def head_side_by_side(slices: int) -> Scan:
    return head(slices, between_mm=3.75)


def step_and_shoot(slices: int) -> Scan:
    """An acquisition for each slice."""
    return [image(5.0 * place, 5.0, place + 1) for place in range(slices)]


def four_rows(slices: int) -> Scan:
    return [image(1.25 * place, 1.25, 1 + place // 4) for place in range(slices)]


STACKS: list[Callable[[int], Scan]] = [
    uniform,
    overlapping,
    gapped,
    unstated,
    head,
    head_side_by_side,
    step_and_shoot,
    four_rows,
]


def turned(images: Scan, direction: str) -> Scan:
    """The same scan with a tilted gantry, a patient on his side, or tables that run back."""
    tilt = np.deg2rad(20)
    orientation = {
        "tilted": [1, 0, 0, 0, float(np.cos(tilt)), float(np.sin(tilt))],
        "decubitus": [0, 1, 0, -1, 0, 0],
    }.get(direction, [1, 0, 0, 0, 1, 0])
    for header in images:
        header.ImageOrientationPatient = orientation
        if direction == "feet first":
            x, y, z = header.ImagePositionPatient
            header.ImagePositionPatient = [x, y, -z]
    return images


@settings(max_examples=300)
@given(
    kind=st.sampled_from(STACKS),
    slices=st.integers(6, 14),
    direction=st.sampled_from(["head first", "feet first", "tilted", "decubitus"]),
    two=st.booleans(),
    with_numbers=st.booleans(),
    data=st.data(),
)
def test_a_valid_stack_is_whole_and_any_slice_missing_inside_is_noticed(
    kind: Callable[[int], Scan],
    slices: int,
    direction: str,
    two: bool,
    with_numbers: bool,
    data: st.DataObject,
) -> None:
    images = turned(kind(slices), direction)
    if with_numbers:
        images = numbered(images)
    order = data.draw(st.permutations(images))
    assert completeness_of(order) == WHOLE
    # Slices of a tilted gantry lie closer than they are thick: at a change of spacing only the
    # numbers tell of one that is missing.
    if direction == "tilted" and kind in (head, head_side_by_side):
        images = numbered(images)
    missing = 2 if two else 1
    at = data.draw(st.integers(1, len(images) - 1 - missing))
    gone = images[at : at + missing]
    found = completeness_of([one for one in order if not any(one is lost for lost in gone)])
    assert found.missing


def stations(overlap_mm: float, *, acquisitions: bool = True) -> Scan:
    """Two stations of 5 mm slices, the second beginning before the first ends."""
    first = [image(5.0 * place, 5.0, 1) for place in range(6)]
    begin = 25.0 - overlap_mm
    second = [image(begin + 5.0 * place, 5.0, 2) for place in range(6)]
    if not acquisitions:
        for header in first + second:
            del header.AcquisitionNumber
    return numbered(first + second)


@pytest.mark.parametrize("acquisitions", [True, False])
@pytest.mark.parametrize("overlap_mm", [-2.5, 2.5, 7.5, 12.5, 22.5, 5.0, 10.0])
def test_stations_that_overlap_are_whole(overlap_mm: float, acquisitions: bool) -> None:
    images = stations(overlap_mm, acquisitions=acquisitions)
    assert completeness_of(images) == WHOLE


@pytest.mark.parametrize("overlap_mm", [-2.5, 2.5, 12.5])
@pytest.mark.parametrize("gone", [1, 2, 3, 8, 9, 10])
def test_a_slice_missing_in_a_station_is_noticed(overlap_mm: float, gone: int) -> None:
    images = stations(overlap_mm)
    del images[gone]
    assert completeness_of(images).missing.startswith("1 slice is missing")


def test_acquisitions_that_interleave_are_judged_apart() -> None:
    odd = [image(10.0 * place, 5.0, 1) for place in range(6)]
    even = [image(10.0 * place + 5.0, 5.0, 2) for place in range(6)]
    images = numbered(odd + even)
    assert completeness_of(images) == WHOLE
    del images[8]
    assert completeness_of(images).missing.startswith("1 slice is missing")


def test_an_acquisition_that_goes_on_after_another_has_no_hole() -> None:
    images = [image(5.0 * place, 5.0, 2 if 4 <= place < 8 else 1) for place in range(12)]
    assert completeness_of(numbered(images)) == WHOLE
    del images[5]
    assert completeness_of(images).missing == "1 slice is missing between images 5 and 7"


def test_spacing_that_doubles_within_one_thickness_is_the_scanners_own() -> None:
    images = numbered(stack(*[2.5] * 6, *[5.0] * 5, thickness=5.0))
    assert completeness_of(images) == WHOLE
    assert completeness_of([*images[:3], *images[4:]]).missing
    assert completeness_of([*images[:9], *images[10:]]).missing


def test_every_other_slice_lost_on_the_way_is_no_change_of_spacing() -> None:
    images = numbered(uniform(20))
    kept = images[:8] + images[8:16:2] + images[16:]
    assert completeness_of(kept).missing.startswith("4 slices are missing")


def test_phases_are_judged_one_by_one() -> None:
    first, second = ([image(5.0 * place, 5.0, phase) for place in range(6)] for phase in (1, 2))
    images = numbered(first + second)
    assert completeness_of(images) == WHOLE
    del images[8]
    assert completeness_of(images).missing == "1 slice is missing between images 8 and 10"


def test_phases_of_which_every_image_is_an_acquisition() -> None:
    images = [image(5.0 * (place % 6), 5.0, place + 1) for place in range(12)]
    assert completeness_of(numbered(images)) == WHOLE
    del images[8]
    assert completeness_of(images).missing.startswith("1 slice is missing")


def test_images_at_one_position_only_are_whole() -> None:
    assert completeness_of(numbered([image(5.0, 5.0, phase) for phase in range(1, 9)])) == WHOLE


@pytest.mark.parametrize(("places", "missing"), [
    ((0, 5, 10, 20, 25), [10]),
    ((0, 5, 15), [10]),
    ((0, 10, 15), [10]),
    ((0, 2.5, 5, 7.5, 20, 22.5, 30), [12.5, 7.5]),
    ((0, 5.02, 9.98, 15.0, 20.03), []),
    ((0, 5, 10, 17, 24), []),
    ((0, 5, 10, 15, 16, 17), []),
    ((0, 72, 106, 214, 310, 314, 386, 420, 438, 502), []),
])  # fmt: skip
def test_without_thickness_a_multiple_of_the_usual_spacing_is_a_hole(
    places: tuple[float, ...], missing: list[float]
) -> None:
    holes = find_gaps([image(place) for place in places], of_places(*places)).found
    assert [hole.distance_mm for hole in holes] == pytest.approx(missing)


@given(
    places=st.lists(st.floats(-500, 500), min_size=1, max_size=30),
    thickness=st.lists(st.sampled_from([None, 0.0, 1.0, 5.0]), min_size=30, max_size=30),
    acquisitions=st.lists(st.sampled_from([None, 1, 2, 3]), min_size=30, max_size=30),
    numbers=st.lists(st.sampled_from([None, 0, 1, 7, 2**31 - 1]), min_size=30, max_size=30),
)
def test_whatever_the_headers_say_there_is_an_answer(
    places: list[float],
    thickness: list[float | None],
    acquisitions: list[int | None],
    numbers: list[int | None],
) -> None:
    images = [image(*one) for one in zip(places, thickness, acquisitions, strict=False)]
    for header, number in zip(images, numbers, strict=False):
        if number is not None:
            header.InstanceNumber = number
    found = find_gaps(images, of_places(*places))
    assert all(hole.missing > 0 and hole.distance_mm > 0 for hole in found.found)

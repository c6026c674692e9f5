"""Models that see neighbouring slices, from files to files: ends, gaps, late slices, references."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from numpy.typing import NDArray
from support.ct_factory import change_header, make_series

from dicom_node.ct.conversion.pool import ConverterPool, ReadSlice
from dicom_node.ct.image_file import ImageFile
from dicom_node.ct.read import open_series
from dicom_node.ct.reader import SliceReader
from dicom_node.denoising.series import DenoiseOptions, GuardOptions, denoise_series
from man_core import Condition, ModelCard

SLICES = 8


class Mean:
    """The mean of each slice and its neighbours."""

    def __init__(self, at_once: int = 3, context_slices: int = 1) -> None:
        self.info = ModelCard(
            name="mean",
            version="1",
            method="mean",
            summary="averages",
            context_slices=context_slices,
        )
        self.device, self.steps, self.at_once = "cpu", 1, at_once

    def denoise(
        self,
        hu: torch.Tensor,
        condition: Condition,
        generator: torch.Generator,
        on_step: object = None,
    ) -> torch.Tensor:
        return hu.mean(dim=1) if self.info.context_slices else hu

    def slices_at_once(self, rows: int, columns: int) -> int:
        return self.at_once


UNGUARDED = DenoiseOptions(guard=GuardOptions(action="off"))


def series(folder: Path, slices: int = SLICES) -> list[Path]:
    return make_series(folder, slices=slices, size=32, padding=0)


def pixels(path: Path) -> NDArray[np.float64]:
    return pydicom.dcmread(path).pixel_array.astype(float)


def sources(path: Path) -> list[str]:
    """The images to which a derived image refers as its sources, in order."""
    found = pydicom.dcmread(path)
    (series,) = found.ReferencedSeriesSequence
    listed = [str(one.ReferencedSOPInstanceUID) for one in found.SourceImageSequence]
    assert [str(o.ReferencedSOPInstanceUID) for o in series.ReferencedInstanceSequence] == listed
    return listed


def uid(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def check(result: Path, own: Path, beside: list[Path]) -> None:
    """A derived image is the mean of itself and its neighbours, and says which they were."""
    planes = [pixels(path) for path in (own, *(beside if len(beside) == 2 else [own, *beside]))]
    np.testing.assert_allclose(pixels(result), np.mean(planes, axis=0), atol=0.51)
    assert np.abs(pixels(result) - planes[0]).max() > 1
    assert sources(result) == [uid(own), *map(uid, beside)]


def test_each_slice_sees_those_beside_it_and_says_so(tmp_path: Path) -> None:
    files = series(tmp_path / "in")
    report = denoise_series(files[::-1], tmp_path / "out", Mean(), UNGUARDED)
    assert report.remarks == ()
    for place, result in enumerate(report.files):
        beside = [files[one] for one in (place - 1, place + 1) if 0 <= one < SLICES]
        check(result, files[place], beside)


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_the_bytes_do_not_depend_on_the_batch(tmp_path: Path, at_once: int) -> None:
    files = series(tmp_path / "in")
    expected = denoise_series(files, tmp_path / "3", Mean(3), UNGUARDED).files
    found = denoise_series(files, tmp_path / "n", Mean(at_once), UNGUARDED).files
    assert [one.read_bytes() for one in found] == [one.read_bytes() for one in expected]


def test_without_context_an_image_refers_to_its_source_alone(tmp_path: Path) -> None:
    files = series(tmp_path / "in")
    report = denoise_series(files, tmp_path / "out", Mean(context_slices=0), UNGUARDED)
    assert [sources(one) for one in report.files] == [[uid(path)] for path in files]


def test_no_slice_sees_across_a_gap(tmp_path: Path) -> None:
    files = series(tmp_path / "in")
    del files[3]
    report = denoise_series(files, tmp_path / "out", Mean(), UNGUARDED, missing="1 slice")
    check(report.files[2], files[2], [files[1]])
    check(report.files[3], files[3], [files[4]])


def test_slices_far_apart_see_nothing_of_each_other(tmp_path: Path) -> None:
    files = series(tmp_path / "in", slices=4)
    for path in files:
        change_header(path, SliceThickness=0.5)
    report = denoise_series(files, tmp_path / "out", Mean(), UNGUARDED)
    assert [sources(one) for one in report.files] == [[uid(path)] for path in files]


def test_phases_see_their_own_neighbours_only(tmp_path: Path) -> None:
    files = series(tmp_path / "1", slices=4)
    systole = series(tmp_path / "2", slices=4)
    common = pydicom.dcmread(files[0])
    for path in systole:
        change_header(
            path,
            SOPInstanceUID=f"{uid(path)}.2",
            SeriesInstanceUID=common.SeriesInstanceUID,
            StudyInstanceUID=common.StudyInstanceUID,
            FrameOfReferenceUID=common.FrameOfReferenceUID,
            AcquisitionNumber=2,
        )
    for path in files:
        change_header(path, AcquisitionNumber=1)
    report = denoise_series([*files, *systole], tmp_path / "out", Mean(), UNGUARDED)
    listed = {sources(one)[0]: sources(one)[1:] for one in report.files}
    for phase in (files, systole):
        uids = [uid(path) for path in phase]
        assert [listed[one] for one in uids] == [
            [uids[1]],
            [uids[0], uids[2]],
            [uids[1], uids[3]],
            [uids[2]],
        ]


def test_late_slices_see_the_earlier_ones_which_keep_their_result(tmp_path: Path) -> None:
    files = series(tmp_path / "in")
    early = [path for place, path in enumerate(files) if place not in (3, 6, 7)]
    first = denoise_series(early, tmp_path / "first", Mean(), UNGUARDED, missing="some slices")
    before = {path.name: path.read_bytes() for path in first.files}
    late = denoise_series(
        files, tmp_path / "late", Mean(2), UNGUARDED, only=[files[3], files[6], files[7]]
    )
    check(late.files[0], files[3], [files[2], files[4]])
    check(late.files[1], files[6], [files[5], files[7]])
    check(late.files[2], files[7], [files[6]])
    (remark,) = json.loads(late.to_json())["remarks"]
    assert remark.startswith("3 earlier images beside these late ones")
    assert {path.name: path.read_bytes() for path in first.files} == before
    assert late.derived_series_uid == first.derived_series_uid
    check(first.files[2], files[2], [files[1]])  # what it saw is what it names


def test_late_slices_of_a_model_without_context_need_no_remark(tmp_path: Path) -> None:
    files = series(tmp_path / "in")
    report = denoise_series(
        files, tmp_path / "out", Mean(context_slices=0), UNGUARDED, only=files[3:4]
    )
    assert report.remarks == ()


def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read, each time they are."""
    found: list[Path] = []
    read: Callable[..., ReadSlice] = ConverterPool.read

    def note(pool: ConverterPool, file: ImageFile, **named: bool) -> ReadSlice:
        found.append(file.path)
        return read(pool, file, **named)

    monkeypatch.setattr(ConverterPool, "read", note)
    return found


def test_every_slice_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, read = series(tmp_path / "in"), reads(monkeypatch)
    denoise_series(files, tmp_path / "out", Mean(1), UNGUARDED)
    assert sorted(read) == files


def test_a_slice_is_held_until_no_slice_that_is_left_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, read = series(tmp_path / "in", slices=5), reads(monkeypatch)
    with SliceReader(open_series(files), context_slices=1) as reader:
        for place in range(5):
            for seen in (place, *reader.neighbours(place)):
                reader.slice(seen)
            reader.release((place,))
        assert sorted(read) == files
        reader.slice(3)
        assert read[-1] == files[3]
        assert len(read) == 6


def test_the_spread_over_seeds_of_late_slices_sees_neighbours(tmp_path: Path) -> None:
    files = series(tmp_path / "in")
    options = DenoiseOptions(guard=GuardOptions(action="flag", seeds=2))
    report = denoise_series(files, tmp_path / "out", Mean(), options, only=files[2:4])
    assert report.uncertainty is not None
    assert report.uncertainty.median_hu in (0.0, None)

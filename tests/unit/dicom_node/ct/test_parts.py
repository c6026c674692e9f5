"""Part of a series: the late slices alone, and what is there of an incomplete one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from support.ct_factory import change_header, make_series

from dicom_node.ct.read import read_series
from dicom_node.denoising.series import DenoiseOptions, denoise_series
from dicom_node.errors import IncompleteSeries, InputError
from man_core import load_denoiser

IDENTITY = load_denoiser("identity")


def test_only_the_wanted_slices_are_read(tmp_path: Path) -> None:
    files = make_series(tmp_path, slices=6)
    part = read_series(files[::-1], only=[files[4], files[1]])
    whole = read_series(files)
    assert part.files == (files[1], files[4])
    np.testing.assert_array_equal(part.volume.hu, whole.volume.hu[[1, 4]])
    np.testing.assert_allclose(part.volume.affine[:, 3], whole.volume.affine @ (1, 0, 0, 1))
    assert part.volume.spacing_mm[0] == pytest.approx(3 * whole.volume.spacing_mm[0])


def test_what_is_known_of_the_scan_is_known_of_the_whole_series(tmp_path: Path) -> None:
    files = make_series(tmp_path, slices=3)
    for path, exposure in zip(files, (10, 20, 90), strict=True):
        change_header(path, Exposure=exposure)
    assert read_series(files, only=files[2:]).condition == read_series(files).condition


def test_the_whole_series_is_checked_whichever_part_is_read(tmp_path: Path) -> None:
    files = make_series(tmp_path, slices=7)
    with pytest.raises(IncompleteSeries, match="1 slice is missing"):
        read_series(files[:3] + files[4:], only=files[:2])
    change_header(files[0], ImagePositionPatient=[5, 5, -45])
    with pytest.raises(InputError, match="at the same position"):
        read_series(files, only=files[4:])


def test_a_part_that_is_not_in_the_series_is_refused(tmp_path: Path) -> None:
    files = make_series(tmp_path / "a")
    with pytest.raises(InputError, match="None of the images"):
        read_series(files, only=[tmp_path / "b.dcm"])


@pytest.mark.parametrize(("name", "steps"), [("identity", None), ("man", 1)])
def test_a_slice_has_the_same_bytes_whichever_others_are_denoised_with_it(
    tmp_path: Path, name: str, steps: int | None
) -> None:
    """So late slices can join a derived series whose other slices have long been sent."""
    files = make_series(tmp_path / "in", slices=4)
    denoiser = load_denoiser(name, device="cpu", steps=steps)
    denoise_series(files, tmp_path / "all", denoiser)
    late = denoise_series(files, tmp_path / "late", denoiser, only=files[1:3])
    assert [path.name for path in late.files] == ["0002.dcm", "0003.dcm"]
    for path in late.files:
        assert path.read_bytes() == (tmp_path / "all" / path.name).read_bytes()


def test_an_incomplete_series_says_what_was_missing(tmp_path: Path) -> None:
    files = make_series(tmp_path / "in", slices=7)
    del files[3]
    missing = "1 slice is missing between images 3 and 5"
    report = denoise_series(files, tmp_path / "out", IDENTITY, missing=missing)
    assert json.loads(report.to_json())["missing"] == missing
    assert len(report.files) == 6
    for path in report.files:
        told = str(pydicom.dcmread(path).DerivationDescription)
        assert told.endswith(f"The series was incomplete: {missing}.")


def test_what_was_missing_leaves_uids_and_pixels_alone(tmp_path: Path) -> None:
    files = make_series(tmp_path / "in", slices=7)
    whole = denoise_series(files, tmp_path / "whole", IDENTITY, DenoiseOptions())
    part = denoise_series(files[:5], tmp_path / "part", IDENTITY, missing="5 of 7 images")
    for first, second in zip(whole.files, part.files, strict=False):
        one, other = pydicom.dcmread(first), pydicom.dcmread(second)
        assert one.SOPInstanceUID == other.SOPInstanceUID
        assert one.SeriesInstanceUID == other.SeriesInstanceUID
        assert one.PixelData == other.PixelData


def test_originals_are_protected_even_when_only_others_are_denoised(tmp_path: Path) -> None:
    first, second, third, fourth = make_series(tmp_path)
    moved = third.rename(tmp_path.parent / "third.dcm")
    first = first.rename(tmp_path / "0003.dcm")  # where the third would be written
    with pytest.raises(InputError, match="holds the original images"):
        denoise_series([first, second, moved, fourth], tmp_path, IDENTITY, only=[moved])

"""Headers that share equal elements say what they said alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from support.ct_factory import change_header, make_series, recode

from dicom_node.ct.attributes import number
from dicom_node.ct.folder import scan_folder
from dicom_node.ct.headers import load
from dicom_node.ct.patient import identity_of
from dicom_node.ct.shared_elements import SharedElements

KVP = b"\x18\x00\x60\x00DS"
"""Tag and VR of the element in an explicit data set."""


def shared(files: list[Path]) -> list[Dataset]:
    pool = SharedElements()
    return [pool.header(load(file, pixels=False)) for file in files]


def said(header: Dataset) -> list[tuple[int, str, object]]:
    return [(int(one.tag), one.VR, one.value) for one in header]


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_each_header_says_what_its_file_says(tmp_path: Path, syntax: str) -> None:
    files = make_series(tmp_path, signed=True, padding=-2000)
    for file in files[1:]:  # the first one in another encoding
        recode(file, syntax)
    alone = [load(file, pixels=False) for file in files]
    together = shared(files)
    assert [said(one) for one in together] == [said(one) for one in alone]
    assert [identity_of(one) for one in together] == [identity_of(one) for one in alone]


def test_equal_elements_are_held_once(tmp_path: Path) -> None:
    _, second, third = shared(make_series(tmp_path, slices=3))
    for keyword in ("ImageType", "ImageOrientationPatient", "SeriesInstanceUID", "KVP"):
        assert second[keyword] is third[keyword]
    assert second["SOPInstanceUID"].value != third["SOPInstanceUID"].value
    assert second["ImagePositionPatient"].value != third["ImagePositionPatient"].value


def test_a_value_that_changes_back_is_right(tmp_path: Path) -> None:
    files = make_series(tmp_path, slices=5)
    descriptions = ["axial", "axial", "other", "axial", "axial"]
    for file, text in zip(files, descriptions, strict=True):
        change_header(file, SeriesDescription=text)
    assert [header.SeriesDescription for header in shared(files)] == descriptions


def test_the_same_bytes_in_another_character_set_are_other_text(tmp_path: Path) -> None:
    files = make_series(tmp_path, slices=4)
    texts = ["é", "é", "Ã©", "Ã©"]
    for file, text in zip(files, texts, strict=True):
        characters = "ISO_IR 192" if text == "é" else "ISO_IR 100"
        change_header(file, SpecificCharacterSet=characters, SeriesDescription=text)
    assert [header.SeriesDescription for header in shared(files)] == texts


def test_the_same_bytes_of_unsigned_pixels_are_another_number(tmp_path: Path) -> None:
    files = make_series(tmp_path / "signed", slices=2, bits=16, signed=True, padding=-2000)
    files += make_series(tmp_path / "unsigned", slices=2, bits=16, padding=65536 - 2000)
    for file in files:
        recode(file, ImplicitVRLittleEndian)
    found = [header.PixelPaddingValue for header in shared(files)]
    assert found == [-2000, -2000, 63536, 63536]


def test_a_value_that_is_no_number_counts_as_absent_in_every_header(tmp_path: Path) -> None:
    files = make_series(tmp_path, slices=3)
    for file in files:
        data = bytearray(file.read_bytes())
        value = data.index(KVP) + len(KVP) + 2
        data[value : value + 2] = b"1x"
        file.write_bytes(data)
    headers = shared(files)
    assert [number(header, "KVP") for header in headers] == [None] * 3
    assert [number(header, "InstanceNumber") for header in headers] == [1.0, 2.0, 3.0]


def test_series_in_one_folder_keep_their_own_values(tmp_path: Path) -> None:
    for series in (1, 2):
        files = make_series(tmp_path / str(series), series_number=series, description=f"S{series}")
        for file in files:
            file.rename(tmp_path / f"{file.stem}-{series}.dcm")
    folder = scan_folder(tmp_path)
    assert [len(files) for files in folder.series] == [4, 4]
    for files in folder.series:
        for file in files:
            assert said(folder.headers[file]) == said(load(file, pixels=False))

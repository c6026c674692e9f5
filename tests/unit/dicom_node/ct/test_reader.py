"""Slices read ahead: as from the whole series, in bounded number; a fault stays what it is."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from support.ct_factory import change_header, make_series

from dicom_node.ct import reader as reader_module
from dicom_node.ct.conversion.pool import CONVERTERS, ReadSlice
from dicom_node.ct.headers import load_image
from dicom_node.ct.image_file import ImageFile, read_slice
from dicom_node.ct.read import open_series, read_series
from dicom_node.ct.reader import SliceReader
from dicom_node.ct.stack import CtStack
from dicom_node.errors import UnreadableFile


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return make_series(tmp_path, slices=12, size=32, padding=0)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indices of the slices that were read, in the order in which they were begun."""
    begun: list[int] = []
    file = CtStack.file

    def note(stack: CtStack, index: int) -> ImageFile:
        begun.append(index)
        return file(stack, index)

    monkeypatch.setattr(CtStack, "file", note)
    return begun


def test_slices_are_those_of_the_whole_series(files: list[Path]) -> None:
    series = read_series(files)
    with SliceReader(open_series(files), early=(0, 6, 11)) as reader:
        assert (reader.shape, len(reader), reader.stack.files) == ((12, 32, 32), 12, tuple(files))
        np.testing.assert_array_equal(reader[6:7], series.volume.hu[6:7])
        for part in (slice(0, 5), slice(5, 12)):
            np.testing.assert_array_equal(reader[part], series.volume.hu[part])
            np.testing.assert_array_equal(reader.padding(part), series.padding[part])
        assert reader.slice(3).file.path == files[3]


def test_every_slice_is_read_once_while_it_is_held(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = counted(monkeypatch)
    with SliceReader(open_series(files), early=(0, 6, 11)) as reader:
        for index in (0, 6, 11, *range(12)):
            assert len(reader[index : index + 1]) == 1
    assert sorted(begun) == list(range(12))


def test_few_slices_are_read_ahead_of_a_slow_reader(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "MAX_AHEAD_SLICES", 3)
    begun = counted(monkeypatch)
    with SliceReader(open_series(files)) as reader:
        for index in range(12):
            reader.slice(index)
            assert len(begun) <= index + 3
            reader.release((index,))
    assert sorted(begun) == list(range(12))


def test_early_slices_that_would_fill_the_memory_are_read_again(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "MAX_HELD_BYTES", 5 * 32 * 32 * 5)
    begun = counted(monkeypatch)
    with SliceReader(open_series(files), early=(0, 6, 11)) as reader:
        for index in (0, 6, 11, *range(12)):
            reader[index : index + 1]
            reader.release((index,))
    assert sorted(begun) == sorted([0, 6, 11, *range(12)])


def test_a_damaged_slice_is_reported_and_the_threads_end(files: list[Path]) -> None:
    stack = open_series(files)
    files[7].write_bytes(files[7].read_bytes()[:-500])
    with (
        pytest.raises(UnreadableFile, match=r"0008\.dcm.*damaged or cut off"),
        SliceReader(stack) as reader,
    ):
        reader[0:12]
    assert not [one for one in threading.enumerate() if one.name.startswith("read")]


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("SOPInstanceUID", "1.2.3"),
        ("PatientID", "ANOTHER"),
        ("PatientName", "ANOTHER^ONE"),
        ("StudyInstanceUID", "1.2.3"),
        ("ImagePositionPatient", [0, 0, 500]),
        ("PixelSpacing", [1, 1]),
        ("RescaleIntercept", 0),
        ("PixelPaddingValue", 5),
    ],
)
def test_a_file_that_changes_between_header_and_pixels_is_refused(
    files: list[Path], keyword: str, value: object
) -> None:
    stack = open_series(files)
    change_header(files[2], **{keyword: value})
    with pytest.raises(UnreadableFile, match="has changed while its series was read"):
        CONVERTERS.read(stack.file(2))


def test_a_comparison_leaves_the_bytes_of_the_header(files: list[Path]) -> None:
    before = load_image(files[2])
    header = read_slice(open_series(files).file(2))[0].header
    for keyword in ("PatientName", "RescaleIntercept", "ImagePositionPatient"):
        assert header.get_item(keyword) == before.get_item(keyword)


def test_processes_forget_the_slices_of_a_series_that_was_given_up(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[ReadSlice] = []
    monkeypatch.setattr(CONVERTERS, "release", forgotten.extend)
    with SliceReader(open_series(files), derived=True) as reader:
        held = [reader.slice(0), reader.slice(1)]
    assert {one.ticket for one in held} <= {one.ticket for one in forgotten}

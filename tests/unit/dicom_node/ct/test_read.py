from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from support.compression import COMPRESSED, compress
from support.ct_factory import (
    AXIAL,
    affine_of,
    ellipse,
    make_series,
    recode,
    rewrite,
    strip_preamble,
)
from support.ct_factory import change_header as change
from support.slices import read_slices, stored_words

from dicom_node.ct.derived.image import derive_image
from dicom_node.ct.derived.provenance import DeriveOptions, Provenance
from dicom_node.ct.files import encode
from dicom_node.ct.headers import image_name, load
from dicom_node.ct.read import find_series, open_series, read_series, scan_folder
from dicom_node.encoding.preamble import begins_with_element
from dicom_node.errors import InputError, UnreadableFile


def test_voxels_geometry_and_condition_come_back(tmp_path: Path) -> None:
    hu = np.round(ellipse(5, 32))
    paths = make_series(tmp_path, hu=hu)
    series = read_series(list(reversed(paths)))
    np.testing.assert_array_equal(series.volume.hu, hu)
    np.testing.assert_allclose(series.volume.affine, affine_of((2.5, 0.8, 0.7), AXIAL))
    assert series.volume.spacing_mm == (2.5, 0.8, 0.7)
    assert list(series.files) == paths
    assert [int(header.InstanceNumber) for header in series.headers] == [1, 2, 3, 4, 5]
    assert stored_words(paths).dtype == np.uint16
    assert not series.padding.any()
    assert series.regular
    assert (series.condition.anatomy, series.condition.kernel) == ("ABDOMEN", "STANDARD")
    assert (series.condition.kvp, series.condition.mas, series.condition.thickness_mm) == (
        120,
        200,
        2.5,
    )
    assert "PixelData" not in series.headers[0]


@pytest.mark.parametrize("orientation", [
    (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1), (-1, 0, 0, 0, 1, 0), (0.8, 0.6, 0, -0.6, 0.8, 0),
])  # fmt: skip
def test_any_orientation_keeps_every_voxel_in_its_place(
    tmp_path: Path, orientation: tuple[float, ...]
) -> None:
    hu = np.round(ellipse(4, 32))
    series = read_series(make_series(tmp_path, hu=hu, orientation=orientation))
    np.testing.assert_array_equal(series.volume.hu, hu)
    np.testing.assert_allclose(series.volume.affine, affine_of((2.5, 0.8, 0.7), orientation))


def test_each_image_is_rescaled_by_its_own_header(tmp_path: Path) -> None:
    paths = make_series(tmp_path, slices=2)
    before = read_series(paths).volume.hu
    change(paths[1], RescaleSlope="2", RescaleIntercept="-100")
    after = read_series(paths).volume.hu
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1], (before[1] + 1024) * 2 - 100)


@pytest.mark.parametrize("value", [-2000, 63536])
def test_padding_is_masked_and_becomes_air(tmp_path: Path, value: int) -> None:
    paths = make_series(tmp_path, signed=True, bits=16, intercept=0, padding=-2000)
    for path in paths:  # some scanners write the number as unsigned
        dataset = pydicom.dcmread(path)
        dataset["PixelPaddingValue"].VR = "US" if value > 0 else "SS"
        dataset.PixelPaddingValue = value
        rewrite(dataset, path)
    series = read_series(paths)
    assert 0.1 < series.padding.mean() < 0.3
    assert (stored_words(paths)[series.padding] == -2000).all()
    assert (series.volume.hu[series.padding] == -1000).all()


def test_a_padding_range_is_masked_as_a_whole(tmp_path: Path) -> None:
    paths = make_series(tmp_path, slices=1)
    dataset = pydicom.dcmread(paths[0])
    dataset.add_new("PixelPaddingValue", "US", 0)
    dataset.add_new("PixelPaddingRangeLimit", "US", 24)
    rewrite(dataset, paths[0])
    one = read_series(paths)
    np.testing.assert_array_equal(one.padding, stored_words(paths) <= 24)
    assert one.padding.any()


@pytest.mark.parametrize("syntax", COMPRESSED)
@pytest.mark.parametrize(("bits", "signed", "intercept"), [(12, False, -1024), (16, True, 0)])
def test_every_lossless_compression_is_read(
    tmp_path: Path, syntax: str, bits: int, signed: bool, intercept: float
) -> None:
    paths = make_series(tmp_path, slices=2, bits=bits, signed=signed, intercept=intercept)
    plain, words = read_series(paths), stored_words(paths)
    for path in paths:
        compress(path, syntax)
    assert pydicom.dcmread(paths[0]).file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(stored_words(paths), words)
    np.testing.assert_array_equal(read_series(paths).volume.hu, plain.volume.hu)


@pytest.mark.parametrize("syntax", [
    ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian,
])  # fmt: skip
def test_every_uncompressed_encoding_is_read(tmp_path: Path, syntax: str) -> None:
    path = make_series(tmp_path, slices=1)[0]
    plain = read_series([path])
    recode(path, syntax)
    np.testing.assert_array_equal(read_series([path]).volume.hu, plain.volume.hu)


def test_a_sample_of_slices_is_read_where_no_spacing_is_usual(tmp_path: Path) -> None:
    paths = make_series(tmp_path, slices=20)
    sample = [paths[index] for index in (0, 1, 4, 9, 19)]
    series = read_series(sample)
    assert not series.regular
    assert series.volume.shape[0] == 5


def test_slices_of_a_broken_series_can_be_read_for_training(tmp_path: Path) -> None:
    paths = make_series(tmp_path, slices=8)
    del paths[3]
    assert read_series(paths, contiguous=False).volume.shape[0] == 7


@pytest.mark.parametrize("syntax", COMPRESSED)
@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_a_truncated_compressed_file_is_never_taken_for_an_image(
    tmp_path: Path, syntax: str, part: float
) -> None:
    path = make_series(tmp_path, slices=1, size=96)[0]
    compress(path, syntax)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(UnreadableFile, match="cut off"):
        read_series([path])


def test_a_folder_is_sorted_into_series(tmp_path: Path) -> None:
    first = make_series(tmp_path / "a", slices=3, description="first")
    second = make_series(tmp_path / "b", slices=2, description="second")
    (tmp_path / "notes.txt").write_text("ignored")
    (tmp_path / "b" / "broken.dcm").write_text("no DICOM")
    (tmp_path / ".hidden.dcm").write_text("no DICOM either")
    folder = scan_folder(tmp_path)
    assert find_series(tmp_path) == [first, second]
    assert [one.path.name for one in folder.unread] == ["broken.dcm"]
    assert [path.name for path in folder.ignored] == ["notes.txt"]
    assert find_series(first[0]) == [first[:1]]


def test_dicom_files_are_known_by_content_too(tmp_path: Path) -> None:
    path = make_series(tmp_path, slices=1)[0]
    renamed = path.rename(tmp_path / "IM000001")
    assert find_series(tmp_path) == [[renamed]]


def test_a_folder_without_dicom_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds nothing and no DICOM file"):
        find_series(tmp_path)
    with pytest.raises(InputError, match="There is no folder"):
        find_series(tmp_path / "missing")
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(InputError, match=r"text.dcm is not a DICOM file"):
        find_series(tmp_path)


MADE_BY = Provenance("man", "1.0", "ab" * 32, "cd" * 32, steps=20, strength=1.0, seed=7)


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize("syntax", [
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian,
])  # fmt: skip
def test_files_without_preamble_are_read(tmp_path: Path, syntax: str, meta: bool) -> None:
    paths = make_series(tmp_path)
    expected = read_series(paths).volume.hu
    renamed = [path.rename(path.with_suffix("")) for path in paths]
    for path in renamed:
        recode(path, syntax)
        strip_preamble(path, meta=meta)
    (found,) = find_series(tmp_path)
    assert found == renamed
    np.testing.assert_array_equal(read_series(found).volume.hu, expected)


@pytest.mark.filterwarnings("ignore:Expected")  # pydicom says what is wrong with it
@pytest.mark.parametrize(
    ("real", "label"),
    [
        (ImplicitVRLittleEndian, ExplicitVRLittleEndian),
        (ExplicitVRLittleEndian, ImplicitVRLittleEndian),
    ],
)
def test_a_data_set_under_a_wrong_label_is_read_for_what_it_is(
    tmp_path: Path, real: str, label: str
) -> None:
    paths = make_series(tmp_path)
    expected = read_series(paths).volume.hu
    for path in paths:
        recode(path, real)
        data = path.read_bytes()
        (length,) = struct.unpack_from("<I", data, 140)
        meta = data[144 : 144 + length].replace(uid_element(real), uid_element(label))
        path.write_bytes(data[:140] + struct.pack("<I", len(meta)) + meta + data[144 + length :])
        assert load(path, pixels=False).file_meta.TransferSyntaxUID == real
    series = read_series(paths)
    np.testing.assert_array_equal(series.volume.hu, expected)
    one, _ = read_slices(open_series(paths))[0]
    encode(derive_image(one, expected[0], MADE_BY, DeriveOptions()))


def uid_element(syntax: str) -> bytes:
    """(0002,0010) in explicit VR."""
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    return struct.pack("<HH2sH", 0x0002, 0x0010, b"UI", len(value)) + value


@given(st.binary(max_size=200))
def test_other_files_are_no_data_sets_without_preamble(data: bytes) -> None:
    first = data[:2]
    assert not begins_with_element(data) or first in (b"\2\0", b"\0\2", b"\x08\0", b"\0\x08")


@pytest.mark.parametrize("text", ["These are my notes.\n", "%PDF-1.7", "\x89PNG\r\n", "{}"])
def test_texts_and_pictures_are_no_data_sets(text: str) -> None:
    assert not begins_with_element(text.encode("latin-1") + bytes(132))


def test_an_image_of_the_inbox_is_named_by_number_and_position(tmp_path: Path) -> None:
    """Its file name there is made of hashes, which tell an operator nothing."""
    paths = make_series(tmp_path, slices=3)
    hashed = paths[1].rename(tmp_path / f"{'0a' * 16}-{'b1' * 8}.dcm")
    header = pydicom.dcmread(hashed, stop_before_pixels=True)
    place = float(header.ImagePositionPatient[2])
    assert image_name(header, hashed) == f"Image {header.InstanceNumber} at z {place:.1f} mm"
    assert image_name(header, paths[0]) == f"Image {header.InstanceNumber} (0001.dcm)"

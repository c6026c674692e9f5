"""Source headers of every uncompressed syntax become Explicit VR Little Endian, value for value."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from support.ct_factory import make_series, recode
from support.slices import read_slices

from dicom_node.ct.derived.image import derive_image
from dicom_node.ct.derived.provenance import Provenance
from dicom_node.ct.read import open_series

MADE_BY = Provenance("man", "1.0", "ab" * 32, "cd" * 32, steps=20, strength=1.0, seed=7)

NOT_UTF_8 = "Müller".encode("iso8859-1")
"""Text in Latin-1 in a file that says UTF-8, as scanners write it."""

PLACEHOLDER = b"Placer"

SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]


def derived_of(path: Path) -> Dataset:
    ((one, hu),) = read_slices(open_series([path]))
    buffer = BytesIO()
    derived = derive_image(one, hu, MADE_BY)
    dcmwrite(buffer, derived, enforce_file_format=True)
    return pydicom.dcmread(BytesIO(buffer.getvalue()))


def add_words(dataset: Dataset) -> None:
    """An overlay and two look-up tables of 16-bit words, and numbers of every width."""
    dataset.add_new(0x60000010, "US", 64)
    dataset.add_new(0x60000011, "US", 64)
    dataset.add_new(0x60000040, "CS", "G")
    dataset.add_new(0x60000050, "SS", [1, 1])
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60000102, "US", 0)
    dataset.add_new(0x60003000, "OW", words(range(256)))
    table = Dataset()
    table.add_new(0x00283002, "SS" if dataset.PixelRepresentation else "US", [4, 0, 16])
    table.add_new(0x00283006, "OW", words([1, 258, 3, 65534]))
    dataset.VOILUTSequence = [table]
    dataset.add_new("TableHeight", "DS", "12.5")
    dataset.add_new("RecommendedDisplayFrameRateInFloat", "FL", 2.5)
    dataset.add_new("ExposureTimeInms", "FD", 0.1)
    dataset.add_new("SelectorULValue", "UL", [1, 70000])
    dataset.add_new("FrameIncrementPointer", "AT", [0x00181063])


def words(values: range | list[int]) -> bytes:
    return np.array(list(values), "<u2").tobytes()


def big_endian_words(path: Path) -> None:
    """pydicom writes the words of OW as they are; a big endian writer swaps them (PS3.5 7.3)."""
    dataset = pydicom.dcmread(path)
    for owner, tag in ((dataset, 0x60003000), (dataset.VOILUTSequence[0], 0x00283006)):
        owner[tag].value = np.frombuffer(owner[tag].value, "<u2").astype(">u2").tobytes()
    dataset.save_as(path)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_words_and_numbers_mean_the_same_in_the_derived_image(
    tmp_path: Path, syntax: str, signed: bool
) -> None:
    path = make_series(tmp_path, 1, change=add_words, signed=signed, intercept=0.0)[0]
    recode(path, syntax)
    if syntax == ExplicitVRBigEndian:
        big_endian_words(path)
    derived = derived_of(path)
    assert derived[0x60003000].value == words(range(256))
    table = derived.VOILUTSequence[0]
    assert table["LUTData"].value == words([1, 258, 3, 65534])
    vr = table["LUTDescriptor"].VR
    assert vr == ("SS" if signed else "US")
    assert list(table.LUTDescriptor) == [4, 0, 16]
    assert derived[0x60000050].value == [1, 1]
    assert derived.TableHeight == 12.5
    assert derived.RecommendedDisplayFrameRateInFloat == 2.5
    assert derived.ExposureTimeInms == 0.1
    assert list(derived.SelectorULValue) == [1, 70000]
    assert derived.FrameIncrementPointer == 0x00181063


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_text_that_does_not_fit_its_character_set_keeps_its_bytes(
    tmp_path: Path, syntax: str
) -> None:
    path = make_series(tmp_path, 1)[0]
    with_raw_text(path, syntax)
    derived = derived_of(path)
    assert derived.get_item("PatientName").value == NOT_UTF_8
    item = derived.RequestAttributesSequence[0]
    assert item.get_item("ScheduledProcedureStepDescription").value == NOT_UTF_8


@pytest.mark.filterwarnings("ignore:Failed to decode byte string")
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_description_that_does_not_fit_its_character_set_keeps_its_bytes(
    tmp_path: Path, syntax: str
) -> None:
    path = make_series(tmp_path, 1)[0]
    with_raw_text(path, syntax, "SeriesDescription")
    assert derived_of(path).get_item("SeriesDescription").value == NOT_UTF_8 + b" MAN"


def with_raw_text(path: Path, syntax: str, keyword: str = "PatientName") -> None:
    """Write the file again with Latin-1 bytes in UTF-8 text, at the top and in a sequence."""
    dataset = pydicom.dcmread(path)
    item = Dataset()
    item.ScheduledProcedureStepDescription = PLACEHOLDER.decode()
    dataset.RequestAttributesSequence = [item]
    setattr(dataset, keyword, PLACEHOLDER.decode())
    dataset.save_as(path)
    recode(path, syntax)
    path.write_bytes(path.read_bytes().replace(PLACEHOLDER, NOT_UTF_8))


def test_a_voi_lut_of_negative_hu_is_signed_though_pixels_are_not(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        table = Dataset()
        table.add_new(0x00283002, "SS", [4, -1000, 16])
        table.add_new(0x00283006, "OW", words([1, 2, 3, 4]))
        dataset.VOILUTSequence = [table]

    path = make_series(tmp_path, 1, change=change)[0]
    recode(path, ImplicitVRLittleEndian)
    assert list(derived_of(path).VOILUTSequence[0].LUTDescriptor) == [4, -1000, 16]


def test_both_halves_of_a_description_with_a_backslash_stay(tmp_path: Path) -> None:
    path = make_series(tmp_path, 1)[0]
    data = path.read_bytes().replace(b"Phantom ", b"Pha\\tom ")
    assert data.count(b"Pha\\tom ") == 1
    path.write_bytes(data)
    assert derived_of(path).SeriesDescription == "Pha/tom MAN"


@settings(max_examples=60)
@given(
    values=st.lists(st.integers(0, 0xFFFF), min_size=2, max_size=16),
    signed=st.booleans(),
    syntax=st.sampled_from(SYNTAXES),
)
def test_words_of_any_value_are_kept(
    tmp_path_factory: pytest.TempPathFactory, values: list[int], signed: bool, syntax: str
) -> None:
    def change(dataset: Dataset) -> None:
        table = Dataset()
        vr, first = ("SS", -5) if signed else ("US", 5)
        table.add_new(0x00283002, vr, [max(len(values), 2), first, 16])
        table.add_new(0x00283006, "OW", struct.pack(f"<{len(values)}H", *values))
        dataset.VOILUTSequence = [table]

    folder = tmp_path_factory.mktemp("words")
    path = make_series(folder, 1, 16, change=change, signed=signed, intercept=0.0)[0]
    recode(path, syntax)
    if syntax == ExplicitVRBigEndian:
        dataset = pydicom.dcmread(path)
        dataset.VOILUTSequence[0].LUTData = struct.pack(f">{len(values)}H", *values)
        dataset.save_as(path)
    table = derived_of(path).VOILUTSequence[0]
    assert table["LUTData"].value == struct.pack(f"<{len(values)}H", *values)
    assert list(table.LUTDescriptor) == [max(len(values), 2), -5 if signed else 5, 16]

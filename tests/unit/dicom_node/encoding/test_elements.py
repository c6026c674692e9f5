"""The bounded walk: what it takes, what it refuses, and that no order of arrival changes that."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from support import bombs
from support.ct_factory import make_series

from dicom_node.ct.headers import load, load_whole
from dicom_node.encoding.elements import MAX_DEPTH, SINGLE_FRAME, ElementWalk
from dicom_node.encoding.file_meta import file_meta
from dicom_node.errors import UnreadableFile
from dicom_node.receiving.header import HeaderWalk, begin_walk, read_header

UIDS = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An ordinary data set in explicit VR little endian."""
    (path,) = make_series(tmp_path_factory.mktemp("image"), slices=1, size=16)
    return bombs.encoded(str(path))[1]


def answer(data: bytes, syntax: str = ExplicitVRLittleEndian, first: int = 0) -> str:
    """What the door says to a data set whose first bytes came before the others."""
    walk = HeaderWalk(syntax)
    begin_walk(walk, data[:first])
    try:
        read_header(walk, data)
    except UnreadableFile as error:
        return str(error)
    return "taken"


@pytest.mark.parametrize("defined", [True, False], ids=["defined", "undefined"])
@pytest.mark.parametrize("first", [0, 400, 10**9])
def test_depth_is_bounded_in_both_kinds_of_length(image: bytes, defined: bool, first: int) -> None:
    def nested(depth: int) -> str:
        return answer(bombs.inserted(image, bombs.nest(depth, defined=defined)), first=first)

    assert nested(MAX_DEPTH) == "taken"
    assert "nested too deeply" in nested(MAX_DEPTH + 1)
    assert "nested too deeply" in nested(20_000)


def test_items_and_elements_are_bounded(image: bytes) -> None:
    assert answer(bombs.inserted(image, bombs.items(SINGLE_FRAME.items))) == "taken"
    assert "items" in answer(bombs.inserted(image, bombs.items(SINGLE_FRAME.items + 1)))
    assert answer(bombs.inserted(image, bombs.elements(90_000))) == "taken"
    assert "elements" in answer(bombs.inserted(image, bombs.elements(SINGLE_FRAME.elements)))


def test_what_swells_outside_the_pixels_is_refused_before_it_does(image: bytes) -> None:
    syntax = DeflatedExplicitVRLittleEndian
    assert answer(bombs.inflating(image, 1 << 20, 8), syntax) == "taken"
    assert "outside its pixel data" in answer(bombs.inflating(image, 30 << 20, 16), syntax)
    assert "outside its pixel data" in answer(bombs.inflating(image, 8 << 20, 5), syntax)


def test_large_private_elements_are_kept_as_they_came(image: bytes) -> None:
    assert answer(bombs.inserted(image, bombs.private(60 << 20))) == "taken"


def test_what_is_odd_within_a_defined_length_is_passed_over(image: bytes) -> None:
    odd = bombs.long_element(bombs.ORIGINAL_ATTRIBUTES, b"SQ", b"no item at all, of no length")
    assert answer(bombs.inserted(image, odd)) == "taken"
    deep = bombs.nest(5, defined=True) + b"no element"
    odd = bombs.long_element(bombs.ORIGINAL_ATTRIBUTES, b"SQ", deep)
    assert answer(bombs.inserted(image, odd)) == "taken"


def test_a_sequence_that_is_cut_off_is_refused(image: bytes) -> None:
    claimed = bombs.long_element(bombs.ORIGINAL_ATTRIBUTES, b"SQ", b"", 10**6)
    assert "cut off" in answer(bombs.inserted(image, claimed))


TEXTS = st.text("abc 123", max_size=12)
LEAVES = st.builds(lambda text: ("ReasonForTheAttributeModification", text), TEXTS)


@st.composite
def data_sets(draw: st.DrawFn, depth: int = 0) -> Dataset:
    """Data sets with sequences in sequences, of defined and undefined length."""
    dataset = Dataset()
    for keyword in ("SourceOfPreviousValues", "ReasonForTheAttributeModification"):
        if draw(st.booleans()):
            setattr(dataset, keyword, draw(TEXTS))
    if depth < 4 and draw(st.booleans()):
        made = Sequence(draw(st.lists(data_sets(depth + 1), max_size=3)))
        for item in made:
            item.is_undefined_length_sequence_item = draw(st.booleans())
        dataset.OriginalAttributesSequence = made
        dataset["OriginalAttributesSequence"].is_undefined_length = draw(st.booleans())
    return dataset


def counted(dataset: Dataset) -> tuple[int, int]:
    """Elements and items at any depth."""
    found = [(0, 0), *(counted(i) for e in dataset if e.VR == "SQ" for i in e.value)]
    inner = sum(len(e.value) for e in dataset if e.VR == "SQ")
    return len(dataset) + sum(e for e, _ in found), inner + sum(i for _, i in found)


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
@given(dataset=data_sets(), step=st.integers(1, 40))
def test_the_walk_counts_what_pydicom_wrote(syntax: str, dataset: Dataset, step: int) -> None:
    """In whatever pieces it arrives; the bytes before the walk's place are not needed again."""
    file = DicomBytesIO()
    file.is_little_endian = syntax != ExplicitVRBigEndian
    file.is_implicit_VR = syntax == ImplicitVRLittleEndian
    write_dataset(file, dataset)
    data, walk, base, kept = file.getvalue(), ElementWalk(syntax), 0, b""
    for at in range(0, len(data), step):
        kept += data[at : at + step]
        walk.advance(kept, base)
        passed = min(walk.offset - base, len(kept))
        kept, base = kept[passed:], base + passed
    assert (walk.elements, walk.items) == counted(dataset)
    assert walk.offset == len(data)
    assert walk.is_at_top_level
    assert walk.skipped == 0


def test_a_file_exceeds_no_bound_either(image: bytes, tmp_path: Path) -> None:
    """Files stored before and those of the offline commands go through the same walk."""

    def reason(data: bytes, syntax: str, *, whole: bool = False) -> str:
        path = tmp_path / "0001.dcm"
        path.write_bytes(file_meta(*UIDS, syntax) + data)
        try:
            load_whole(path) if whole else load(path, pixels=False)
        except UnreadableFile as error:
            return str(error)
        return "read"

    plain, swelling = ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian
    for defined in (True, False):
        deep = bombs.inserted(image, bombs.nest(20_000, defined=defined))
        assert "nested too deeply" in reason(deep, plain)
        assert "nested too deeply" in reason(bombs.deflated([deep]), swelling)
    assert "outside its pixel data" in reason(bombs.inflating(image, 30 << 20, 16), swelling)
    assert reason(bombs.inserted(image, bombs.private(60 << 20)), plain, whole=True) == "read"
    assert "items" in reason(bombs.inserted(image, bombs.items(10**6)), plain)
    large = bombs.long_element(0x0042_0011, b"OB", bytes(30 << 20))
    assert reason(bombs.inserted(image, large), plain) == "read"
    assert "larger" in reason(bombs.inserted(image, large), plain, whole=True)

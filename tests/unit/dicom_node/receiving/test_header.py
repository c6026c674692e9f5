"""What the receiver reads of a data set, compared with pydicom on thousands of damaged ones."""

from __future__ import annotations

import random
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.filereader import read_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from support.mutation import bomb, deflated, mutated_data_set

from dicom_node.encoding.inflation import PIECE_BYTES, inflated
from dicom_node.errors import UnreadableFile
from dicom_node.receiving.header import Header, HeaderWalk, begin_walk, read_header

CT_FILE = Path(str(get_testdata_file("CT_small.dcm")))
CASES = 600
BOMB_BYTES = 16 << 20
NONE = b""


@pytest.fixture(scope="module")
def data() -> bytes:
    """A real data set in explicit VR little endian."""
    meta = dcmread(CT_FILE, stop_before_pixels=True).file_meta
    return CT_FILE.read_bytes()[144 + meta.FileMetaInformationGroupLength :]


def header_of(encoded: bytes, syntax: str, first: int) -> Header | None:
    """The header, read while the data set arrives; None when it is refused."""
    walk = HeaderWalk(syntax)
    begin_walk(walk, encoded[:first])
    try:
        return read_header(walk, encoded)
    except UnreadableFile:
        return None


def read_back(encoded: bytes, syntax: str) -> Dataset:
    plain = zlib.decompress(encoded, -15) if syntax == DeflatedExplicitVRLittleEndian else encoded
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_dataset(BytesIO(plain), False, True)


@pytest.mark.filterwarnings("ignore")  # pydicom says what is wrong with them
def test_what_is_accepted_pydicom_reads_in_the_same_way(data: bytes) -> None:
    accepted = 0
    for case in range(CASES):
        rng = random.Random(case)
        syntax, damaged = ExplicitVRLittleEndian, mutated_data_set(data, rng)
        if case % 10 == 0:
            syntax, damaged = DeflatedExplicitVRLittleEndian, deflated(data, rng)
        header = header_of(damaged, syntax, first=rng.randint(0, len(damaged)))
        if header is None:
            continue
        accepted += 1
        dataset = read_back(damaged, syntax)
        uids = (dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
        assert uids == (header.sop_instance_uid, header.study_uid, header.series_uid), case
    assert CASES / 10 < accepted < CASES * 9 / 10


def test_a_data_set_is_read_in_any_two_pieces(data: bytes) -> None:
    whole = header_of(data, ExplicitVRLittleEndian, first=0)
    assert whole is not None
    for first in range(0, len(data), 97):
        assert header_of(data, ExplicitVRLittleEndian, first) == whole


def test_a_bomb_is_inflated_in_pieces(data: bytes) -> None:
    swelling = bomb(data, BOMB_BYTES)
    sizes = [len(piece) for piece in inflated(swelling)]
    assert sum(sizes) > BOMB_BYTES
    assert max(sizes) <= PIECE_BYTES
    with pytest.raises(UnreadableFile, match="has more than"):
        list(inflated(swelling, BOMB_BYTES // 2))


@pytest.mark.parametrize("after", [b"\0", b"\0" * 7, b"\xff" * 8, b"\xff" * 20])
def test_what_follows_a_data_set_is_not_passed_over(data: bytes, after: bytes) -> None:
    assert header_of(data + after, ExplicitVRLittleEndian, first=0) is None


def test_nothing_is_no_data_set() -> None:
    for syntax in (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        assert header_of(NONE, syntax, first=0) is None

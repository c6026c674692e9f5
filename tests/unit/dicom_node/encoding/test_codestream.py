"""Codestreams that claim another size than their header: refused before a decoder sees them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.encaps import generate_frames
from support import bombs
from support.ct_factory import make_series

from dicom_node.ct.read import read_series, scan_folder
from dicom_node.encoding.codestream import check_frame_header
from dicom_node.encoding.file_meta import file_meta
from dicom_node.errors import InputError, UnreadableFile

SIZE = 24
KINDS = ("JPEG-LS", "JPEG", "JPEG 2000", "RLE")

READ = """
import sys
from pathlib import Path
from dicom_node.ct.read import read_series, scan_folder
from dicom_node.errors import InputError
try:
    read_series(sorted(Path(sys.argv[1]).iterdir()))
except InputError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_series(tmp_path_factory.mktemp("source"), slices=3, size=SIZE)


def with_stream(path: Path, kind: str, side: int, target: Path, *, header_too: bool) -> None:
    dataset = dcmread(path)
    syntax, pixels = bombs.lying_codestreams(dataset, side)[kind]
    dataset.PixelData = pixels
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = syntax
    if header_too:
        dataset.Rows = dataset.Columns = side
    dataset.save_as(target, enforce_file_format=True)


@pytest.mark.parametrize("header_too", [False, True], ids=["stream lies", "header lies too"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_claims_gigabytes_costs_none(
    source: list[Path], tmp_path: Path, kind: str, header_too: bool
) -> None:
    """In a process of its own: a decoder that cannot get its memory may end it."""
    for path in source:
        with_stream(path, kind, 60_000, tmp_path / path.name, header_too=header_too)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READ, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Image 1 (0001.dcm) ")
    assert ("60000 x 60000" in done.stdout) or (kind == "RLE" and "larger" in done.stdout)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_damaged_stream_is_refused_in_a_sentence_or_claims_its_size(
    source: list[Path], kind: str, data: st.DataObject
) -> None:
    """Whatever the bytes are, nothing but :class:`UnreadableFile` comes out."""
    syntax, pixels = bombs.lying_codestreams(dcmread(source[0]), SIZE)[kind]
    stream = bytearray(next(generate_frames(pixels, number_of_frames=1)))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, min(len(stream), 200) - 1))
        stream[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(stream)))
    with contextlib.suppress(UnreadableFile):
        check_frame_header(bytes(stream[:cut]), syntax, rows=SIZE, columns=SIZE)


@pytest.mark.parametrize("kind", ["JPEG-LS", "JPEG", "JPEG 2000"])
def test_a_stream_of_the_size_of_its_header_passes(source: list[Path], kind: str) -> None:
    """What real encoders make is decoded in ``test_ct_read``."""
    syntax, pixels = bombs.lying_codestreams(dcmread(source[0]), SIZE)[kind]
    stream = next(generate_frames(pixels, number_of_frames=1))
    check_frame_header(stream, syntax, rows=SIZE, columns=SIZE)
    for rows, columns in ((SIZE + 1, SIZE), (SIZE, SIZE - 1)):
        with pytest.raises(UnreadableFile, match=f"{SIZE} x {SIZE}"):
            check_frame_header(stream, syntax, rows=rows, columns=columns)


def test_an_image_larger_than_any_scanner_makes_is_named(
    source: list[Path], tmp_path: Path
) -> None:
    for path in source:
        dataset = dcmread(path)
        dataset.Rows = dataset.Columns = 65_535
        dataset.save_as(tmp_path / path.name)
    with pytest.raises(InputError, match="65535 x 65535 pixels"):
        read_series(sorted(tmp_path.iterdir()))


@pytest.mark.parametrize("content", [b"\x1f\x8b\x08" + bytes(range(256)) * 8, b"", b"BZh9" * 100])
def test_a_maker_s_own_compression_is_named(tmp_path: Path, content: bytes) -> None:
    """Of the whole data set: nothing of it can be read, and nothing is cut off."""
    path = tmp_path / "0001.dcm"
    path.write_bytes(file_meta("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.3.4.5.6") + content)
    with pytest.raises(InputError) as caught:
        scan_folder(tmp_path)
    assert "0001.dcm is compressed as 1.2.3.4.5.6, which cannot be read here" in str(caught.value)
    assert "cut off" not in str(caught.value)

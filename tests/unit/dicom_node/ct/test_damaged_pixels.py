"""Damaged compressed pixels: refused in a sentence wherever the compression shows the damage."""

from __future__ import annotations

import os
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import DeflatedExplicitVRLittleEndian
from support.compression import COMPRESSED, compress
from support.ct_factory import make_series, recode
from support.peers import require_program
from support.slices import stored_words

from dicom_node.ct.decoder_messages import messages_of
from dicom_node.errors import UnreadableFile

SIZE = 96
JPEG = ("jpeg-lossless", "jpeg-lossless-sv1")
OTHER = bytes(range(1, 151))
END_OF_IMAGE = b"\xff\xd9"

Edit = Callable[[bytes], bytes]


def image(folder: Path, syntax: str) -> Path:
    (path,) = make_series(folder, slices=1, size=SIZE)
    compress(path, syntax)
    return path


def edit_frame(path: Path, edit: Edit) -> None:
    dataset = pydicom.dcmread(path)
    frame = edit(get_frame(dataset.PixelData, 0, number_of_frames=1))
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)


def is_refused(path: Path) -> str:
    with pytest.raises(UnreadableFile) as caught:
        stored_words([path])
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(("Image 1 (0001.dcm)", "The pixel data of Image 1"))
    return str(caught.value)


def without_padding(frame: bytes) -> bytes:
    """A frame of JPEG without the byte that makes its length even."""
    return frame[: frame.rindex(END_OF_IMAGE) + 2]


@pytest.mark.parametrize("rest", [OTHER, bytes(7) + b"\1", b"\xff\xd8\xff\xd9"])
@pytest.mark.parametrize("syntax", COMPRESSED)
def test_data_behind_the_end_of_the_image_is_refused(
    tmp_path: Path, syntax: str, rest: bytes
) -> None:
    path = image(tmp_path, syntax)
    edit_frame(path, lambda frame: frame + rest)
    assert "more data follows the end of the image" in is_refused(path)


@pytest.mark.filterwarnings("ignore:The decoded RLE segment:UserWarning")
@pytest.mark.parametrize("padding", [b"\0", bytes(40), bytes(4000)])
@pytest.mark.parametrize("syntax", COMPRESSED)
def test_padding_behind_the_end_of_the_image_passes(
    tmp_path: Path, syntax: str, padding: bytes
) -> None:
    path = image(tmp_path, syntax)
    words = stored_words([path])
    edit_frame(path, lambda frame: frame + padding)
    np.testing.assert_array_equal(stored_words([path]), words)


@pytest.mark.parametrize("syntax", [*JPEG, "jpeg-ls", "jpeg-2000"])
def test_a_frame_without_its_last_marker_is_refused(tmp_path: Path, syntax: str) -> None:
    path = image(tmp_path, syntax)
    edit_frame(path, lambda frame: without_padding(frame)[:-2])
    assert "damaged or cut off" in is_refused(path)


@pytest.mark.parametrize("syntax", sorted({*COMPRESSED} - {"jpeg-2000"}))
def test_a_hole_in_the_data_is_refused(tmp_path: Path, syntax: str) -> None:
    """Zeros of a lost block. In JPEG 2000 they are valid data, unless they hit a header."""
    path = image(tmp_path, syntax)

    def punch(frame: bytes) -> bytes:
        at = len(frame) // 2
        return frame[:at] + bytes(512) + frame[at + 512 :]

    edit_frame(path, punch)
    assert "damaged" in is_refused(path)


@pytest.mark.parametrize("syntax", [*COMPRESSED])
def test_foreign_bytes_in_the_data_are_refused(tmp_path: Path, syntax: str) -> None:
    """A block of another file, which holds bytes that are markers in every compression."""
    path = image(tmp_path, syntax)
    block = bytes(range(256)) + b"\xff\x91\xff\xc4" * 64

    def overwrite(frame: bytes) -> bytes:
        at = len(frame) // 2
        return frame[:at] + block + frame[at + len(block) :]

    edit_frame(path, overwrite)
    assert "damaged" in is_refused(path)


@pytest.mark.parametrize("syntax", [*JPEG, "jpeg-ls", "jpeg-2000"])
def test_another_precision_than_the_header_s_is_refused(tmp_path: Path, syntax: str) -> None:
    """Half of the new range would be added to each pixel."""
    path = image(tmp_path, syntax)
    begin, bits, stated = {
        "jpeg-2000": (b"\xff\x51", 40, 13 - 1),
        "jpeg-ls": (b"\xff\xf7", 4, 13),
    }.get(syntax, (b"\xff\xc3", 4, 13))

    def widen(frame: bytes) -> bytes:
        at = frame.index(begin) + bits
        return frame[:at] + bytes([stated]) + frame[at + 1 :]

    edit_frame(path, widen)
    assert "claim to have 13 bits, its header says 12" in is_refused(path)


@pytest.mark.parametrize("syntax", JPEG)
@pytest.mark.parametrize(("last", "passes"), [
    (b"\0", True), (b"\xff\0", True), (b"\xff", True),
    (b"\x5a\x11\x22\x33\x44", False), (bytes(5), False),
])  # fmt: skip
def test_unused_bytes_of_a_scan_are_refused_but_for_a_flushed_one(
    tmp_path: Path, syntax: str, last: bytes, passes: bool
) -> None:
    """Some encoders write the bits that fill the last byte even where there are none."""
    path = image(tmp_path, syntax)
    words = stored_words([path])
    edit_frame(path, lambda frame: without_padding(frame)[:-2] + last + END_OF_IMAGE)
    if passes:
        np.testing.assert_array_equal(stored_words([path]), words)
    else:
        assert "damaged" in is_refused(path)


def test_a_run_of_another_length_is_refused(tmp_path: Path) -> None:
    path = image(tmp_path, "rle")

    def lengthen(frame: bytes) -> bytes:
        return frame[:64] + bytes([frame[64] - 1]) + frame[65:]

    edit_frame(path, lengthen)
    assert "damaged" in is_refused(path)


@pytest.mark.parametrize("second", [0, 63, 1 << 31])
def test_an_rle_segment_at_an_impossible_place_is_refused(tmp_path: Path, second: int) -> None:
    path = image(tmp_path, "rle")
    edit_frame(path, lambda frame: frame[:8] + second.to_bytes(4, "little") + frame[12:])
    is_refused(path)


def deflated(folder: Path) -> Path:
    (path,) = make_series(folder, slices=1, size=SIZE)
    recode(path, DeflatedExplicitVRLittleEndian)
    return path


def data_set_at(data: bytes) -> int:
    return 144 + int.from_bytes(data[140:144], "little")


@pytest.mark.parametrize("rest", [bytes(range(61)) * 5, b"\1\2"])
def test_data_behind_a_deflated_data_set_is_refused(tmp_path: Path, rest: bytes) -> None:
    path = deflated(tmp_path)
    path.write_bytes(path.read_bytes() + rest)
    with pytest.raises(UnreadableFile, match="more data follows its end"):
        stored_words([path])


@pytest.mark.parametrize("padding", [b"\0", b" ", bytes(3), bytes(200_000)])
def test_padding_behind_a_deflated_data_set_passes(tmp_path: Path, padding: bytes) -> None:
    path = deflated(tmp_path)
    words = stored_words([path])
    path.write_bytes(path.read_bytes() + padding)
    np.testing.assert_array_equal(stored_words([path]), words)


def test_a_deflated_data_set_with_a_byte_too_many_or_too_few_is_refused(tmp_path: Path) -> None:
    """The stream is valid, and all pixels behind the damage are of the wrong bytes."""
    path = deflated(tmp_path)
    data = path.read_bytes()
    at = data_set_at(data)
    inside = zlib.decompress(data[at:], -zlib.MAX_WBITS)
    middle = len(inside) - SIZE * SIZE
    for damaged in (
        inside[:middle] + b"\x07" + inside[middle:],
        inside[:middle] + inside[middle + 1 :],
        inside[:middle] + bytes(300) + inside[middle:],
    ):
        pack = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        path.write_bytes(data[:at] + pack.compress(damaged) + pack.flush())
        with pytest.raises(UnreadableFile, match="damaged or cut off"):
            stored_words([path])


def test_a_checksum_behind_a_deflated_data_set_is_checked(tmp_path: Path) -> None:
    """GDCM writes that of gzip, which the standard does not know."""
    gdcmconv = require_program("gdcmconv")
    (path,) = make_series(tmp_path, slices=1, size=SIZE)
    words = stored_words([path])
    target = tmp_path / "deflated.dcm"
    subprocess.run([gdcmconv, "--deflated", path, target], check=True)
    np.testing.assert_array_equal(stored_words([target]), words)
    data = bytearray(target.read_bytes())
    data[-8] ^= 1
    target.write_bytes(data)
    with pytest.raises(UnreadableFile, match="damaged"):
        stored_words([target])


ENCODERS = {
    "dcmcjpeg +e1": ("dcmcjpeg", "+e1"),
    "dcmcjpeg +el, predictor 4": ("dcmcjpeg", "+el", "+sv", "4"),
    "dcmcjpeg +el, predictor 7": ("dcmcjpeg", "+el", "+sv", "7"),
    "dcmcjpeg in fragments": ("dcmcjpeg", "+e1", "+fs", "4", "-ot"),
    "dcmcjpls": ("dcmcjpls", "+el"),
    "dcmcjpls in fragments": ("dcmcjpls", "+el", "+fs", "4", "-ot"),
    "dcmcrle": ("dcmcrle",),
    "dcmcrle in fragments": ("dcmcrle", "+fs", "2", "-ot"),
    "dcmconv deflated": ("dcmconv", "+td"),
    "dcmconv deflated, level 9": ("dcmconv", "+td", "+cl", "9"),
    "gdcmconv jpeg": ("gdcmconv", "--jpeg"),
    "gdcmconv jpegls": ("gdcmconv", "--jpegls"),
    "gdcmconv j2k": ("gdcmconv", "--j2k"),
    "gdcmconv rle": ("gdcmconv", "--rle"),
    "gdcmconv deflated": ("gdcmconv", "--deflated"),
}


@pytest.mark.parametrize(("bits", "signed"), [
    (12, False), (12, True), (16, False), (16, True),
])  # fmt: skip
@pytest.mark.parametrize("encoder", ENCODERS)
def test_whatever_real_encoders_write_is_read(
    tmp_path: Path, encoder: str, bits: int, signed: bool
) -> None:
    program, *options = ENCODERS[encoder]
    intercept = 0.0 if signed else -1024.0
    (path,) = make_series(
        tmp_path, slices=1, size=SIZE + 1, bits=bits, signed=signed, intercept=intercept
    )
    words, target = stored_words([path]), tmp_path / "compressed.dcm"
    subprocess.run([require_program(program), *options, path, target], check=True)
    np.testing.assert_array_equal(stored_words([target]), words)


def test_messages_of_a_decoder_are_collected_and_standard_error_returns(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with messages_of(True) as messages:
        os.write(2, b"inside")
        os.write(2, b" and more")
    os.write(2, b"behind")
    assert messages.text == b"inside and more"
    assert capfd.readouterr().err == "behind"
    with messages_of(True) as messages:
        pass
    assert messages.text == b""


def test_a_decoder_that_floods_standard_error_is_not_held_up() -> None:
    with messages_of(True) as messages:
        for _ in range(100):
            try:
                os.write(2, bytes(1 << 14))
            except BlockingIOError:
                break
        else:
            pytest.fail("The pipe has no end.")
    assert messages.text

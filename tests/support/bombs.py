"""Small data sets that are expensive to read: by depth, counts, sizes, or false claims.

Every function inserts something into a data set in explicit VR little endian, right before its
pixel data and in the order of tags, so that nothing else is wrong with it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from functools import cache

from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

PIXELS = b"\xe0\x7f\x10\x00"
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = (
    struct.pack("<HH", 0xFFFE, element) for element in (0xE000, 0xE00D, 0xE0DD)
)
ORIGINAL_ATTRIBUTES = 0x0400_0561
"""A public sequence with a tag above those of any header of the tests."""

PRIVATE = 0x0041_1001


def long_element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An element of a VR with a length of 32 bits."""
    size = len(value) if length is None else length
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, size) + value


def inserted(data: bytes, *elements: bytes) -> bytes:
    """A data set with further elements before its pixel data."""
    at = data.rindex(PIXELS)
    return b"".join((data[:at], *elements, data[at:]))


@cache
def nest(depth: int, *, defined: bool, tag: int = ORIGINAL_ATTRIBUTES) -> bytes:
    """Sequences within sequences, one item each; of defined or undefined length."""
    if not defined:
        begin = long_element(tag, b"SQ", b"", UNDEFINED) + ITEM + struct.pack("<I", UNDEFINED)
        return begin * depth + (ITEM_END + bytes(4) + SEQUENCE_END + bytes(4)) * depth
    heads, size = [], 0
    for _ in range(depth):
        heads.append(long_element(tag, b"SQ", ITEM + struct.pack("<I", size), size + 8))
        size += len(heads[-1])
    return b"".join(reversed(heads))


@cache
def items(count: int, *, tag: int = ORIGINAL_ATTRIBUTES) -> bytes:
    """A sequence of so many empty items."""
    return long_element(tag, b"SQ", (ITEM + bytes(4)) * count)


@cache
def elements(count: int, *, tag: int = ORIGINAL_ATTRIBUTES) -> bytes:
    """A sequence of one item with so many empty elements."""
    group = b"".join(
        struct.pack("<HH2sH", 0x0011 + 2 * (at >> 16), at & 0xFFFF, b"LO", 0) for at in range(count)
    )
    return long_element(tag, b"SQ", ITEM + struct.pack("<I", len(group)) + group)


def private(size: int, count: int = 1) -> bytes:
    """So many private elements of so many bytes each."""
    return b"".join(long_element(PRIVATE + at, b"OB", bytes(size)) for at in range(count))


def deflated(pieces: Iterable[bytes]) -> bytes:
    """A deflated data set of these bytes."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return b"".join((*(compressor.compress(one) for one in pieces), compressor.flush()))


def inflating(data: bytes, size: int, count: int) -> bytes:
    """A deflated data set with so many private elements of so many zeros each."""
    at, zeros = max(data.rfind(PIXELS), 0), bytes(size)
    within = (
        piece
        for place in range(count)
        for piece in (long_element(PRIVATE + place, b"OB", b"", size), zeros)
    )
    return deflated((data[:at], *within, data[at:]))


def lying_codestreams(dataset: Dataset, side: int) -> dict[str, tuple[str, bytes]]:
    """Streams of some hundred bytes that claim to be of so many rows and columns.

    Returns:
        By name: the transfer syntax, and the encapsulated pixel data.
    """
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00\x01\x00\x00" + bytes(60)
    tables = b"\xff\xc4" + struct.pack(">H", 20) + b"\x00\x01" + bytes(16)
    frame = b"\xff\xc3" + struct.pack(">HBHHB", 11, 12, side, side, 1) + b"\x01\x11\x00"
    size = struct.pack(">HHIIIIIIIIH", 41, 0, side, side, 0, 0, side, side, 0, 0, 1)
    coding = b"\xff\x52" + struct.pack(">H", 12) + bytes([0, 0, 0, 1, 0, 5, 4, 4, 0, 1])
    quantities = b"\xff\x5c" + struct.pack(">H", 19) + b"\x40" + bytes([0x40] * 16)
    tile = b"\xff\x90" + struct.pack(">HHIBB", 10, 0, 0, 0, 1) + b"\xff\x93" + bytes(50)
    runs = struct.pack("<16I", 2, 64, 64 + 120_000, *[0] * 13) + b"\x81\x00" * 120_000
    streams = {
        "JPEG-LS": (JPEGLSLossless, _larger_jpeg_ls(dataset, side)),
        "JPEG": (JPEGLosslessSV1, b"\xff\xd8" + frame + tables + scan + b"\xff\xd9"),
        "JPEG 2000": (
            JPEG2000Lossless,
            b"\xff\x4f\xff\x51" + size + b"\x0b\x01\x01" + coding + quantities + tile + b"\xff\xd9",
        ),
        "RLE": (RLELossless, runs),
    }
    return {name: (str(uid), encapsulate([one])) for name, (uid, one) in streams.items()}


def _larger_jpeg_ls(dataset: Dataset, side: int) -> bytes:
    copied = Dataset()
    copied.update(dataset)
    copied.file_meta = dataset.file_meta
    copied.compress(JPEGLSLossless, generate_instance_uid=False)
    stream = bytearray(next(generate_frames(copied.PixelData, number_of_frames=1)))
    at = stream.find(b"\xff\xf7")
    stream[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(stream)


def encoded(path: str) -> tuple[str, bytes]:
    """Transfer syntax and data set of a file, as its bytes are."""
    with open(path, "rb") as file:
        whole = file.read()
    meta = dcmread(path, stop_before_pixels=True).file_meta
    return str(meta.TransferSyntaxUID), whole[144 + meta.FileMetaInformationGroupLength :]

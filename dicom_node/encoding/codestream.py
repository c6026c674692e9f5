"""Frame header of compressed pixels, compared with the DICOM header before decoding.

A decoder allocates the size that the codestream states: a few hundred bytes can state gigabytes,
and a library that cannot allocate them may end the process. So each frame must state the size that
the DICOM header states.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_node.errors import UnreadableFile

WORD_BYTES: Final = 2
MAX_BITS: Final = 16
MAX_TILES: Final = 4096
MIN_PRECINCT_LOG2: Final = 4
"""Limits on tiles and precincts: JPEG 2000 allows one for each pixel; no CT writer does that."""

MAX_SEGMENT_RATIO: Final = 2
"""An RLE segment has at most two bytes for each byte of pixel data (PS3.5, G.3)."""

SEGMENT_SLACK_BYTES: Final = 64

_NO_LENGTH = frozenset((0x01, *range(0xD0, 0xD8)))
_FRAME_HEADERS = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_SCAN = 0xDA
_TILE_PART, _CODING_STYLE, _PACKET_MARKERS = 0x90, 0x52, 0b110


@dataclass(frozen=True)
class FrameHeader:
    """Image size in a codestream.

    Attributes:
        rows: Number of lines.
        columns: Samples per line.
        samples: Number of components.
        bits: Bits per sample.
        data_at: Offset of the coded data: the first scan header, or the first tile-part.
        markers_in_data: Whether packets of JPEG 2000 begin or end with markers.
    """

    rows: int
    columns: int
    samples: int
    bits: int
    data_at: int
    markers_in_data: bool = False


class FrameMismatch(UnreadableFile):
    """A frame that does not fit the DICOM header; the message is a clause about the file."""


class _Malformed(Exception):  # noqa: N818 - the name says what the codestream is
    """The codestream has no readable frame header."""


def check_frame_header(
    stream: bytes, transfer_syntax: str, *, rows: int, columns: int, bits_stored: int = MAX_BITS
) -> FrameHeader | None:
    """Check that a frame holds one monochrome image of the size in the DICOM header.

    Args:
        stream: The frame's codestream.
        transfer_syntax: Its compression; a syntax that the node does not read passes unchecked.
        rows: Rows of the DICOM header.
        columns: Columns of the DICOM header.
        bits_stored: Bits Stored of the DICOM header. Some encoders state the whole word, others
            as few bits as the values need.

    Returns:
        The frame header; None where the compression has none.

    Raises:
        FrameMismatch: It states another size, or its frame header cannot be read.
    """
    if transfer_syntax == RLELossless:
        _check_segments(stream, rows * columns)
        return None
    read = _READERS.get(transfer_syntax)
    if read is None:
        return None
    try:
        header = read(stream)
    except (_Malformed, struct.error, IndexError) as error:
        raise FrameMismatch("its compressed pixels have no readable header") from error
    size = header.rows, header.columns, header.samples
    if size != (rows, columns, 1) or header.bits > MAX_BITS:
        raise FrameMismatch(
            f"its compressed pixels claim to be {header.rows} x {header.columns} with "
            f"{header.samples} samples of {header.bits} bits, its header says {rows} x {columns}"
        )
    if not (1 <= header.bits <= bits_stored or header.bits == MAX_BITS):
        raise FrameMismatch(
            f"its compressed pixels claim to have {header.bits} bits, its header says {bits_stored}"
        )
    return header


def _jpeg(stream: bytes) -> FrameHeader:
    """Read the frame header of JPEG (ITU-T T.81, B.2.2) or JPEG-LS (ITU-T T.87, C.2.2)."""
    if stream[:2] != b"\xff\xd8":
        raise _Malformed
    at, header = 2, None
    while True:
        if stream[at] != 0xFF:
            raise _Malformed
        marker = stream[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in _NO_LENGTH:
            at += 2
            continue
        if marker == _SCAN:
            break
        if marker in _FRAME_HEADERS:
            if header is not None:
                raise _Malformed
            bits, rows, columns, samples = struct.unpack_from(">BHHB", stream, at + 4)
            header = FrameHeader(rows, columns, samples, bits, data_at=-1)
        at += 2 + struct.unpack_from(">H", stream, at + 2)[0]
    if header is None:
        raise _Malformed
    return replace(header, data_at=at)


def _jpeg_2000(stream: bytes) -> FrameHeader:
    """Read the SIZ segment, which follows the first marker (ITU-T T.800, A.5.1)."""
    at = _codestream_offset(stream)
    if stream[at : at + 4] != b"\xff\x4f\xff\x51":
        raise _Malformed
    _, _, right, lower, left, upper, wide, high, _, _, samples, depth, across, down = (
        struct.unpack_from(">HH8IHBBB", stream, at + 4)
    )
    if not (wide and high) or (across, down) != (1, 1):
        raise _Malformed
    if -(-right // wide) * -(-lower // high) > MAX_TILES:
        raise _Malformed
    first = at + 4 + struct.unpack_from(">H", stream, at + 4)[0]
    data_at, markers = _check_coding_style(stream, first)
    return FrameHeader(
        lower - upper, right - left, samples, (depth & 0x7F) + 1, data_at, markers_in_data=markers
    )


def _codestream_offset(stream: bytes) -> int:
    """Offset of the codestream; some writers put a whole JP2 file into the fragment."""
    if stream[4:8] != b"jP  ":
        return 0
    at = 0
    while stream[at + 4 : at + 8] != b"jp2c":
        size = struct.unpack_from(">I", stream, at)[0]
        if size < 8:
            raise _Malformed
        at += size
    return at + (16 if struct.unpack_from(">I", stream, at)[0] == 1 else 8)


def _check_coding_style(stream: bytes, at: int) -> tuple[int, bool]:
    """Check the precincts in the COD and COC segments (ITU-T T.800, A.6.1 and A.6.2).

    Returns:
        Offset of the first tile-part, and whether packets have markers of their own.
    """
    markers = False
    while at + 4 <= len(stream) and stream[at] == 0xFF and stream[at + 1] != _TILE_PART:
        length = struct.unpack_from(">H", stream, at + 2)[0]
        sizes = {_CODING_STYLE: (4, 14), 0x53: (5, 11)}.get(stream[at + 1])
        if sizes is not None and stream[at + sizes[0]] & 1:
            found = stream[at + sizes[1] : at + 2 + length]
            if any(min(one & 0xF, one >> 4) < MIN_PRECINCT_LOG2 for one in found):
                raise _Malformed
        if stream[at + 1] == _CODING_STYLE:
            markers = stream[at + 4] & _PACKET_MARKERS != 0
        at += 2 + length
    return at, markers


def _check_segments(stream: bytes, pixels: int) -> None:
    """Check the RLE header (PS3.5, G.5): one segment for each byte of a pixel, none too long."""
    if len(stream) < SEGMENT_SLACK_BYTES:
        raise FrameMismatch("its compressed pixels have no readable header")
    count, *offsets = struct.unpack_from("<16I", stream)
    if count != WORD_BYTES:
        raise FrameMismatch(
            f"its compressed pixels have {count} segments, one for each of {WORD_BYTES} bytes "
            "of a pixel are expected"
        )
    ends = [*offsets[1:count], len(stream)]
    longest = max(end - begin for begin, end in zip(offsets[:count], ends, strict=True))
    if longest > MAX_SEGMENT_RATIO * pixels + SEGMENT_SLACK_BYTES:
        raise FrameMismatch("its compressed pixels are larger than its header allows")


_READERS: Final[Mapping[str, Callable[[bytes], FrameHeader]]] = MappingProxyType(
    {
        str(JPEGLSLossless): _jpeg,
        str(JPEGLSNearLossless): _jpeg,
        str(JPEGLossless): _jpeg,
        str(JPEGLosslessSV1): _jpeg,
        str(JPEG2000): _jpeg_2000,
        str(JPEG2000Lossless): _jpeg_2000,
    }
)

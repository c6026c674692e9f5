"""End of a frame of compressed pixels: the data is complete, and nothing follows it.

Damage in entropy-coded data shifts what follows, so that a frame ends too early or too late. A
decoder that has all of its pixels looks no further; these checks do. Padding passes: zero bytes in
any number, and one byte of any value, which makes a fragment's length even.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from pydicom.uid import JPEGLSLossless, JPEGLSNearLossless, JPEGTransferSyntaxes, RLELossless

from dicom_node.encoding.codestream import WORD_BYTES, FrameHeader, FrameMismatch

_INCOMPLETE: Final = "its compressed pixels are damaged or cut off"
_EXCESS: Final = "its compressed pixels are damaged: more data follows the end of the image"

_JPEG_LS: Final = (JPEGLSLossless, JPEGLSNearLossless)
_JPEG_MARKER: Final = re.compile(rb"\xff\xff*[^\x00\xd0-\xd7\xff]", re.DOTALL)
"""A marker that ends a scan; zero is stuffed after FF in data (ITU-T T.81, B.1.1.5)."""

_JPEG_LS_MARKER: Final = re.compile(rb"\xff\xff*[\x80-\xcf\xd8-\xfe]", re.DOTALL)
"""The same of JPEG-LS, which stuffs one bit (ITU-T T.87, A.1)."""

_END_OF_IMAGE: Final = b"\xd9"

_END_OF_CODESTREAM: Final = b"\xff\xd9"
_TILE_PART: Final = b"\xff\x90"
_DATA: Final = b"\xff\x93"
_TILE_PART_HEADER_BYTES: Final = 12
_NO_DATA: Final = re.compile(rb"\xff[\x90-\xff]", re.DOTALL)
"""Never in packets but as their markers (ITU-T T.800, B.10.1 and D.1)."""

_NO_PACKET_MARKER: Final = re.compile(rb"\xff[\x90\x93-\xff]", re.DOTALL)
_SIGNATURE_BOX: Final = b"jP  "

_RLE_HEADER_BYTES: Final = 64
_RLE_NOTHING: Final = 128


def check_frame_end(
    stream: bytes, transfer_syntax: str, header: FrameHeader | None, *, pixels: int
) -> None:
    """Check that a frame is complete and that nothing follows it but padding.

    Args:
        stream: The frame's codestream.
        transfer_syntax: Its compression.
        header: What ``check_frame_header`` has read.
        pixels: Rows times columns.

    Raises:
        FrameMismatch: It ends too early or too late, or its data breaks the rules of its coding.
    """
    if transfer_syntax == RLELossless:
        _check_rle(stream, pixels)
    elif header is None:
        return
    elif transfer_syntax in _JPEG_LS or transfer_syntax in JPEGTransferSyntaxes:
        _check_jpeg(stream, header.data_at, is_ls=transfer_syntax in _JPEG_LS)
    else:
        _check_jpeg_2000(stream, header)


def is_padding(rest: bytes) -> bool:
    """Return whether bytes after the end are padding."""
    return len(rest) <= 1 or not rest.strip(b"\0")


def scan_data(stream: bytes, header: FrameHeader) -> bytes:
    """Return the entropy-coded data of the only scan of a JPEG frame, without fill bytes."""
    begin = _scan_begin(stream, header.data_at)
    found = _JPEG_MARKER.search(stream, begin)
    return stream[begin : found.start() if found else len(stream)]


def _scan_begin(stream: bytes, scan_at: int) -> int:
    if scan_at + 4 > len(stream):
        raise FrameMismatch(_INCOMPLETE)
    length: int = struct.unpack_from(">H", stream, scan_at + 2)[0]
    return scan_at + 2 + length


def _check_jpeg(stream: bytes, scan_at: int, *, is_ls: bool) -> None:
    """Check that the only scan is followed by the marker EOI, and this by padding."""
    marker = _JPEG_LS_MARKER if is_ls else _JPEG_MARKER
    found = marker.search(stream, _scan_begin(stream, scan_at))
    if found is None or not found[0].endswith(_END_OF_IMAGE):
        raise FrameMismatch(_INCOMPLETE)
    if not is_padding(stream[found.end() :]):
        raise FrameMismatch(_EXCESS)


def _check_jpeg_2000(stream: bytes, header: FrameHeader) -> None:
    """Check the lengths of all tile-parts, their data, and the marker EOC (ITU-T T.800, A.4)."""
    at, not_data = header.data_at, _NO_PACKET_MARKER if header.markers_in_data else _NO_DATA
    while stream[at : at + 2] == _TILE_PART:
        if at + _TILE_PART_HEADER_BYTES > len(stream):
            raise FrameMismatch(_INCOMPLETE)
        length = struct.unpack_from(">I", stream, at + 6)[0]
        begin = _packets_begin(stream, at)
        found = not_data.search(stream, begin)
        end = at + length if length else (found.start() if found else len(stream))
        if end < begin or (found and found.start() < end - 1):
            raise FrameMismatch(_INCOMPLETE)
        at = end
    if stream[at : at + 2] != _END_OF_CODESTREAM:
        raise FrameMismatch(_INCOMPLETE)
    if stream[4:8] != _SIGNATURE_BOX and not is_padding(stream[at + 2 :]):
        raise FrameMismatch(_EXCESS)


def _packets_begin(stream: bytes, at: int) -> int:
    """Return the offset after the marker SOD, which ends the header of a tile-part."""
    at += _TILE_PART_HEADER_BYTES
    while stream[at : at + 2] != _DATA:
        if at + 4 > len(stream) or stream[at] != _DATA[0]:
            raise FrameMismatch(_INCOMPLETE)
        at += 2 + struct.unpack_from(">H", stream, at + 2)[0]
    return at + len(_DATA)


def _check_rle(stream: bytes, pixels: int) -> None:
    """Check that each segment has one byte for each pixel (PS3.5, G.3 to G.5)."""
    offsets = struct.unpack_from(f"<{WORD_BYTES}I", stream, 4)
    ends = [*offsets[1:], len(stream)]
    for begin, end in zip(offsets, ends, strict=True):
        if not _RLE_HEADER_BYTES <= begin <= end <= len(stream):
            raise FrameMismatch(_INCOMPLETE)
        _check_segment(stream[begin:end], pixels)


def _check_segment(segment: bytes, pixels: int) -> None:
    at = decoded = 0
    while decoded < pixels:
        if at >= len(segment):
            raise FrameMismatch(_INCOMPLETE)
        count = segment[at]
        if count < _RLE_NOTHING:
            decoded, at = decoded + count + 1, at + count + 2
        elif count > _RLE_NOTHING:
            decoded, at = decoded + 257 - count, at + 2
        else:
            at += 1
    if decoded != pixels or at > len(segment):
        raise FrameMismatch(_INCOMPLETE)
    if not is_padding(segment[at:]):
        raise FrameMismatch(_EXCESS)

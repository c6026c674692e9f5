"""Inflation of deflated data sets (PS3.5, A.5) in bounded pieces."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

from dicom_node.errors import UnreadableFile

PIECE_BYTES = 1 << 20
INPUT_BYTES = 1 << 16

MAX_INFLATED_BYTES = 1 << 29
"""Longest inflated data set; a small deflated one may inflate to a thousand times its size."""

MAX_INFLATED_HEADER_BYTES = 32 << 20
"""Longest part of an inflated data set outside its pixel data."""

_TRAILER_BYTES = 8


def inflated(
    data: bytes | memoryview | Iterable[bytes],
    max_bytes: int = MAX_INFLATED_BYTES,
    *,
    nothing_behind: bool = False,
) -> Iterator[bytes]:
    """Inflate a data set in pieces of at most `PIECE_BYTES`.

    Args:
        data: The whole deflated data set, or its parts in order.
        max_bytes: Longest inflated data set.
        nothing_behind: Whether only padding may follow the end of the stream. A damaged stream
            can end early, and has no checksum (RFC 1951).

    Raises:
        UnreadableFile: The stream is damaged, cut off, or exceeds the limit.
    """
    inflate, left = zlib.decompressobj(-zlib.MAX_WBITS), max_bytes
    parts, sums = iter(_parts(data)), _Checksums()
    for part in parts:
        rest: bytes | memoryview = part
        while not inflate.eof:
            try:
                piece = inflate.decompress(rest, PIECE_BYTES)
            except zlib.error as error:
                raise UnreadableFile("The deflated data set is damaged.") from error
            rest, left = inflate.unconsumed_tail, left - len(piece)
            if left < 0:
                raise UnreadableFile(f"The deflated data set has more than {max_bytes >> 20} MiB.")
            if not piece and not rest:
                break
            if nothing_behind:
                sums.add(piece)
            yield piece
        if inflate.eof:
            if nothing_behind:
                _check_behind(inflate.unused_data, parts, sums)
            return
    raise UnreadableFile("The deflated data set is cut off.")


class _Checksums:
    """Checksums that some writers add, although DICOM has no place for them (PS3.5, A.5)."""

    def __init__(self) -> None:
        self._crc, self._adler, self._size = 0, 1, 0

    def add(self, piece: bytes) -> None:
        """Count in a piece of the inflated data set."""
        self._crc, self._adler = zlib.crc32(piece, self._crc), zlib.adler32(piece, self._adler)
        self._size += len(piece)

    def trailers(self) -> tuple[bytes, bytes]:
        """Return the trailers of gzip (RFC 1952, 2.3), as GDCM writes it, and zlib (RFC 1950)."""
        return struct.pack("<2I", self._crc, self._size & 0xFFFF_FFFF), struct.pack(
            ">I", self._adler
        )


def _check_behind(unused: bytes, parts: Iterator[bytes | memoryview], sums: _Checksums) -> None:
    """Check that zero bytes follow, or one byte of padding to an even length (PS3.5, A.5).

    A checksum may come first, if it is right.
    """
    behind = unused
    while len(behind) < _TRAILER_BYTES and (part := next(parts, None)) is not None:
        behind += bytes(part)
    trailer = next((one for one in sums.trailers() if behind.startswith(one)), b"")
    behind = behind[len(trailer) :]
    size, is_blank = len(behind), not behind.strip(b"\0")
    for part in parts:
        size, is_blank = size + len(part), is_blank and not bytes(part).strip(b"\0")
    if size > 1 and not is_blank:
        raise UnreadableFile("The deflated data set is damaged: more data follows its end.")


def _parts(data: bytes | memoryview | Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """Split into small parts, since zlib copies the unconsumed rest with every piece."""
    if not isinstance(data, bytes | memoryview):
        yield from data
        return
    for begin in range(0, len(data), INPUT_BYTES):
        yield data[begin : begin + INPUT_BYTES]

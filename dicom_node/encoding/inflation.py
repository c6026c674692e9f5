"""Inflation of deflated data sets (PS3.5, A.5) in bounded pieces."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from dicom_node.errors import UnreadableFile

PIECE_BYTES = 1 << 20
INPUT_BYTES = 1 << 16

MAX_INFLATED_BYTES = 1 << 29
"""Longest inflated data set; a small deflated one may inflate to a thousand times its size."""

MAX_INFLATED_HEADER_BYTES = 32 << 20
"""Longest part of an inflated data set outside its pixel data."""


def inflated(
    data: bytes | memoryview | Iterable[bytes], max_bytes: int = MAX_INFLATED_BYTES
) -> Iterator[bytes]:
    """Inflate a data set in pieces of at most `PIECE_BYTES`.

    Args:
        data: The whole deflated data set, or its parts in order.
        max_bytes: Longest inflated data set.

    Raises:
        UnreadableFile: The stream is damaged, cut off, or exceeds the limit.
    """
    inflate, left = zlib.decompressobj(-zlib.MAX_WBITS), max_bytes
    for part in _parts(data):
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
            yield piece
        if inflate.eof:
            return
    raise UnreadableFile("The deflated data set is cut off.")


def _parts(data: bytes | memoryview | Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """Split into small parts, since zlib copies the unconsumed rest with every piece."""
    if not isinstance(data, bytes | memoryview):
        yield from data
        return
    for begin in range(0, len(data), INPUT_BYTES):
        yield data[begin : begin + INPUT_BYTES]

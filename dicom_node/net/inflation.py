"""Deflated data sets (PS3.5, A.5), piece by piece: a small one may swell a thousandfold."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from dicom_node.errors import UnreadableFile

PIECE_BYTES = 1 << 20

LARGEST_INFLATED_BYTES = 1 << 29
"""A data set that is larger is refused."""


def inflated(data: bytes | memoryview, most: int = LARGEST_INFLATED_BYTES) -> Iterator[bytes]:
    """The data set in pieces of at most `PIECE_BYTES`.

    Args:
        data: The whole deflated data set.
        most: Bytes beyond which it is refused.

    Raises:
        UnreadableFile: The stream is damaged, cut off, or swells beyond the limit.
    """
    inflate, left = zlib.decompressobj(-zlib.MAX_WBITS), most
    rest: bytes | memoryview = data
    while not inflate.eof:
        try:
            piece = inflate.decompress(rest, PIECE_BYTES)
        except zlib.error as error:
            raise UnreadableFile("The deflated data set is damaged.") from error
        rest, left = inflate.unconsumed_tail, left - len(piece)
        if left < 0:
            raise UnreadableFile("The deflated data set is far too large.")
        if not piece and not rest and not inflate.eof:
            raise UnreadableFile("The deflated data set is cut off.")
        yield piece

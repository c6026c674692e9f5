"""Reading of selected elements: only these enter memory and are parsed by pydicom.

A file may hold gigabytes in private elements and sequences, and a deflated one a thousand times its
size. So a bounded walk first selects elements, and pydicom parses these alone.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from typing import BinaryIO, Final

import pydicom
from pydicom import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node.encoding.actual_syntax import actual_syntax
from dicom_node.encoding.element_selection import (
    MAX_HEADER_BYTES,
    MAX_PIXEL_BYTES,
    ElementScope,
    ElementSelection,
)
from dicom_node.encoding.elements import (
    MULTI_FRAME,
    SINGLE_FRAME,
    ElementWalk,
    IrregularDataSet,
)
from dicom_node.encoding.inflation import MAX_INFLATED_HEADER_BYTES, inflated
from dicom_node.encoding.irregular import is_small, read_irregular
from dicom_node.encoding.preamble import HEAD_BYTES, begins_with_element, has_prefix
from dicom_node.errors import UnreadableFile

PIECE_BYTES: Final = 1 << 16
MAX_ELEMENT_HEAD_BYTES: Final = 12

DEFLATED: Final = str(DeflatedExplicitVRLittleEndian)
_DAMAGED: Final = "The deflated data set is damaged or cut off."


def transfer_syntax_of(file: BinaryIO) -> str:
    """Read the transfer syntax that a file states; empty where it states none."""
    head = file.read(PIECE_BYTES)
    file.seek(0)
    return _data_set_start(head)[1]


def read_elements(file: BinaryIO, wanted: ElementScope) -> FileDataset:
    """Read the selected elements of a file; private ones never.

    Raises:
        UnreadableFile: The file exceeds a bound.
        Exception: Whatever pydicom raises at a file that is damaged or not DICOM.
    """
    head = file.read(PIECE_BYTES)
    bare = not has_prefix(head) and begins_with_element(head)
    start, label = _data_set_start(head)
    syntax = actual_syntax(label, head[start:])
    source = _Plain(file, start)
    if syntax == DEFLATED:
        source = _Deflated(file, start, to_end=wanted.pixels)
    bounds = MULTI_FRAME if wanted.lean else SINGLE_FRAME  # a lean header is small in any case
    selection = ElementSelection(syntax, wanted, replace(bounds, header_bytes=source.max_bytes))
    try:
        if not syntax:
            raise IrregularDataSet  # pydicom guesses it
        source.walk(selection)
    except IrregularDataSet:
        return read_irregular(
            source.whole(), pixels=wanted.pixels, force=bare, max_bytes=_limit(wanted)
        )
    selection.close()
    pieces = source.parts([span[:2] for span in selection.spans])
    chosen = [
        piece
        for piece, (_, _, is_irregular) in zip(pieces, selection.spans, strict=True)
        if not is_irregular or is_small(piece)
    ]
    return pydicom.dcmread(BytesIO(source.head() + source.encoded(b"".join(chosen))), force=bare)


def _limit(wanted: ElementScope) -> int:
    return MAX_HEADER_BYTES + MAX_PIXEL_BYTES * wanted.pixels


class _Plain:
    """A file whose data set is not deflated.

    Args:
        file: The file, open for reading.
        start: Offset of the data set.
    """

    max_bytes: int | None = None

    def __init__(self, file: BinaryIO, start: int) -> None:
        self._file, self._start = file, start

    def walk(self, selection: ElementSelection) -> None:
        """Walk over the data set as far as the selection needs; values are not read."""
        size = self._file.seek(0, os.SEEK_END) - self._start
        at = -1
        while at < selection.offset < size:
            at = selection.offset
            self._file.seek(self._start + at)
            selection.advance(self._file.read(PIECE_BYTES), at)

    def parts(self, spans: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """Read spans of the data set, in order."""
        for begin, end in spans:
            self._file.seek(self._start + begin)
            yield self._file.read(end - begin)

    def head(self) -> bytes:
        """Read the bytes before the data set."""
        self._file.seek(0)
        return self._file.read(self._start)

    def encoded(self, data: bytes) -> bytes:
        """Encode a data set for such a file."""
        return data

    def whole(self) -> BinaryIO:
        """The whole file, for pydicom."""
        return self._file


class _Deflated(_Plain):
    """A file whose data set is deflated; it is inflated twice rather than kept in memory.

    Args:
        file: The file, open for reading.
        start: Offset of the data set.
        to_end: Whether the whole data set must be sound. Damage of the stream shifts all that
            follows, so that the last element does not end where the data set ends.
    """

    max_bytes = MAX_INFLATED_HEADER_BYTES

    def __init__(self, file: BinaryIO, start: int, *, to_end: bool) -> None:
        super().__init__(file, start)
        self._to_end = to_end

    def walk(self, selection: ElementSelection) -> None:
        selection.to_end = self._to_end
        try:
            size = self._walk(selection)
        except IrregularDataSet:
            if selection.has_pixels:
                raise UnreadableFile(_DAMAGED) from None
            raise
        if self._to_end and (selection.offset != size or not selection.is_at_top_level):
            raise UnreadableFile(_DAMAGED)

    def _walk(self, selection: ElementSelection) -> int:
        """Walk over the data set as far as the selection needs; return the bytes inflated."""
        kept, base = b"", 0
        for piece in self._inflated():
            kept += piece
            selection.advance(kept, base)
            if not self._to_end and base + len(kept) - selection.offset > MAX_ELEMENT_HEAD_BYTES:
                break  # nothing further is selected
            passed = min(selection.offset - base, len(kept))
            kept, base = kept[passed:], base + passed
        return base + len(kept)

    def parts(self, spans: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        pieces, kept, base = self._inflated(), b"", 0
        for begin, end in spans:
            found = []
            while base + len(kept) < end:
                found.append(kept[max(begin - base, 0) :])
                base, kept = base + len(kept), next(pieces, b"")
                if not kept:
                    break
            found.append(kept[max(begin - base, 0) : max(end - base, 0)])
            yield b"".join(found)

    def encoded(self, data: bytes) -> bytes:
        stored = zlib.compressobj(0, wbits=-zlib.MAX_WBITS)
        return stored.compress(data) + stored.flush()

    def whole(self) -> BinaryIO:
        data = b"".join(inflated(self._compressed(), MAX_INFLATED_HEADER_BYTES))
        return BytesIO(self.head() + self.encoded(data))

    def _inflated(self) -> Iterator[bytes]:
        return inflated(self._compressed(), nothing_behind=self._to_end)

    def _compressed(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        while part := self._file.read(PIECE_BYTES):
            yield part


def _data_set_start(head: bytes) -> tuple[int, str]:
    """Offset of the data set after the File Meta Information, and its transfer syntax."""
    at = HEAD_BYTES if has_prefix(head) else 0
    meta = _Meta(ExplicitVRLittleEndian)
    with suppress(IrregularDataSet):  # left to pydicom
        meta.advance(head[at:])
    return at + meta.offset, meta.syntax


class _Meta(ElementWalk):
    """A walk over the File Meta Information, group 0002 (PS3.10, 7.1)."""

    syntax = ""

    def _on_element(
        self, data: bytes | memoryview, base: int, tag: int, vr: bytes, value: int, length: int
    ) -> bool:
        if tag >> 16 != 0x0002:
            return False
        if tag == 0x0002_0010:
            text = bytes(data[value - base : value - base + length])
            self.syntax = text.decode("ascii", "replace").strip("\0 ")
        return True

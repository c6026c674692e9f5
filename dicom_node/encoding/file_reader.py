"""Files to pydicom, element by element: only what is wanted of a file comes into memory.

A file may hold gigabytes in private elements and sequences, and a deflated one a thousand times its
size. So a walk first chooses elements, within bounds, and pydicom sees these alone.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import BytesIO
from typing import BinaryIO, Final

import pydicom
from pydicom import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node.encoding.actual_syntax import actual_syntax
from dicom_node.encoding.elements import (
    MULTI_FRAME,
    PIXEL_DATA,
    SINGLE_FRAME,
    Bounds,
    ElementWalk,
    Odd,
    is_sequence,
)
from dicom_node.encoding.inflation import MAX_INFLATED_HEADER_BYTES, inflated
from dicom_node.encoding.irregular import is_small, read_irregular
from dicom_node.encoding.preamble import HEAD_BYTES, begins_with_element, has_prefix
from dicom_node.errors import UnreadableFile

MAX_HEADER_BYTES: Final = 16 << 20
"""Most of a header that goes into a derived image: its public elements."""

MAX_PIXEL_BYTES: Final = 80 << 20
"""Most of the encoded pixels of one image: twice those of 4096 x 4096, and some."""

MAX_LEAN_ELEMENTS: Final = 1000
MAX_LEAN_BYTES: Final = 1 << 18
MAX_LEAN_VALUE_BYTES: Final = 1 << 14
"""Limits of a header by which a series is decided about: more than any scanner writes."""

LEAN_SEQUENCES: Final = frozenset((0x0018_A001,))
"""Sequences by which a series is decided about: Contributing Equipment."""

PIECE_BYTES: Final = 1 << 16
LONGEST_HEAD_BYTES: Final = 12
GROUP_AFTER_HEADER: Final = 0x7FE0

DEFLATED: Final = str(DeflatedExplicitVRLittleEndian)


@dataclass(frozen=True)
class Wanted:
    """Which elements of a file are read.

    Attributes:
        lean: Small values alone, and of sequences those by which a series is decided about.
        pixels: The pixel data too.
    """

    lean: bool
    pixels: bool


def transfer_syntax_of(file: BinaryIO) -> str:
    """The transfer syntax that a file states; empty where it states none."""
    head = file.read(PIECE_BYTES)
    file.seek(0)
    return _data_set_start(head)[1]


def read_wanted(file: BinaryIO, wanted: Wanted) -> FileDataset:
    """Read some elements of a file; private ones never.

    Raises:
        UnreadableFile: The file exceeds a bound.
        Exception: Whatever pydicom raises at a file that is damaged or not DICOM.
    """
    head = file.read(PIECE_BYTES)
    bare = not has_prefix(head) and begins_with_element(head)
    start, label = _data_set_start(head)
    syntax = actual_syntax(label, head[start:])
    source = _Deflated(file, start) if syntax == DEFLATED else _Plain(file, start)
    bounds = MULTI_FRAME if wanted.lean else SINGLE_FRAME  # what is lean is small all the same
    selection = _Selection(syntax, wanted, replace(bounds, header_bytes=source.most_bytes))
    try:
        if not syntax:
            raise Odd  # pydicom guesses it
        source.walk(selection)
    except Odd:
        return read_irregular(
            source.whole(), pixels=wanted.pixels, force=bare, most_bytes=_most(wanted)
        )
    selection.close()
    pieces = source.parts([span[:2] for span in selection.spans])
    chosen = [
        piece
        for piece, (_, _, odd) in zip(pieces, selection.spans, strict=True)
        if not odd or is_small(piece)
    ]
    return pydicom.dcmread(BytesIO(source.head() + source.encoded(b"".join(chosen))), force=bare)


def _most(wanted: Wanted) -> int:
    return MAX_HEADER_BYTES + MAX_PIXEL_BYTES * wanted.pixels


class _Plain:
    """A file whose data set lies in it as it is.

    Args:
        file: Open for reading.
        start: Where the data set begins.
    """

    most_bytes: int | None = None

    def __init__(self, file: BinaryIO, start: int) -> None:
        self._file, self._start = file, start

    def walk(self, selection: _Selection) -> None:
        """Look at the data set as far as the selection goes; values are passed by unread."""
        size = self._file.seek(0, os.SEEK_END) - self._start
        at = -1
        while at < selection.offset < size:
            at = selection.offset
            self._file.seek(self._start + at)
            selection.go(self._file.read(PIECE_BYTES), at)

    def parts(self, spans: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """Spans of the data set, in order."""
        for begin, end in spans:
            self._file.seek(self._start + begin)
            yield self._file.read(end - begin)

    def head(self) -> bytes:
        """What comes before the data set."""
        self._file.seek(0)
        return self._file.read(self._start)

    def encoded(self, data: bytes) -> bytes:
        """A data set as it lies in such a file."""
        return data

    def whole(self) -> BinaryIO:
        """The file, for a reader that takes it as it is."""
        return self._file


class _Deflated(_Plain):
    """A file whose data set is deflated; it is inflated twice rather than kept."""

    most_bytes = MAX_INFLATED_HEADER_BYTES

    def walk(self, selection: _Selection) -> None:
        kept, base = b"", 0
        for piece in self._inflated():
            kept += piece
            selection.go(kept, base)
            if base + len(kept) - selection.offset > LONGEST_HEAD_BYTES:
                return  # it has what it wants
            passed = min(selection.offset - base, len(kept))
            kept, base = kept[passed:], base + passed

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
        return inflated(self._compressed())

    def _compressed(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        while part := self._file.read(PIECE_BYTES):
            yield part


class _Selection(ElementWalk):
    """Chooses elements of the top level; each is a span of the data set."""

    def __init__(self, transfer_syntax: str, wanted: Wanted, bounds: Bounds) -> None:
        super().__init__(transfer_syntax, bounds)
        self._wanted = wanted
        self.spans: list[tuple[int, int, bool]] = []
        self._bytes, self._begun, self._odd = 0, -1, False

    def _found(
        self, data: bytes | memoryview, base: int, tag: int, vr: bytes, value: int, length: int
    ) -> bool:
        self.close()
        if tag >> 16 >= GROUP_AFTER_HEADER:
            if not self._wanted.pixels or tag > PIXEL_DATA:
                return False
            if tag == PIXEL_DATA:
                self._begin()
        elif self._keeps(tag, vr, length):
            self._begin()
        return True

    def _begin(self) -> None:
        self._begun, self._odd = self.offset, False

    def close(self) -> None:
        """Whatever was chosen last ends here."""
        if self._begun < 0:
            return
        self.spans.append((self._begun, self.offset, self._odd))
        self._bytes += self.offset - self._begun
        self._begun = -1
        lean = self._wanted.lean
        most = MAX_LEAN_BYTES if lean else MAX_HEADER_BYTES
        if self._bytes - self.pixel_bytes > most or (lean and len(self.spans) > MAX_LEAN_ELEMENTS):
            raise UnreadableFile("Its header is larger than that of any image.")
        if self.pixel_bytes > MAX_PIXEL_BYTES:
            raise UnreadableFile(
                f"It holds more than {MAX_PIXEL_BYTES >> 20} MiB of pixels, which no CT image has."
            )

    def _keeps(self, tag: int, vr: bytes, length: int) -> bool:
        if tag >> 16 & 1:  # private elements go into no derived image
            return False
        if not self._wanted.lean or tag in LEAN_SEQUENCES:
            return True
        return length <= MAX_LEAN_VALUE_BYTES and not is_sequence(tag, vr)

    def _pass_over(self) -> bool:
        self._odd = True
        return super()._pass_over()


def _data_set_start(head: bytes) -> tuple[int, str]:
    """Where the data set begins behind the file meta information, and its transfer syntax."""
    at = HEAD_BYTES if has_prefix(head) else 0
    meta = _Meta(ExplicitVRLittleEndian)
    with suppress(Odd):  # pydicom knows how to read it
        meta.go(head[at:])
    return at + meta.offset, meta.syntax


class _Meta(ElementWalk):
    """Goes through the file meta information, group 0002 (PS3.10, 7.1)."""

    syntax = ""

    def _found(
        self, data: bytes | memoryview, base: int, tag: int, vr: bytes, value: int, length: int
    ) -> bool:
        if tag >> 16 != 0x0002:
            return False
        if tag == 0x0002_0010:
            text = bytes(data[value - base : value - base + length])
            self.syntax = text.decode("ascii", "replace").strip("\0 ")
        return True

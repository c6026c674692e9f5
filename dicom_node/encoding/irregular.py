"""Bounded reading of irregular data sets by pydicom, which tolerates many broken rules.

pydicom reads sequences of undefined length by recursion and keeps every element as an object of
some hundred bytes. The number of its reads and bytes is therefore limited.
"""

from __future__ import annotations

import os
from typing import BinaryIO, Final

import pydicom
from pydicom import Dataset, FileDataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.encoding.elements import MAX_DEPTH, SINGLE_FRAME, ElementWalk, is_sequence
from dicom_node.errors import UnreadableFile

READS_PER_ELEMENT: Final = 3
MAX_ELEMENTS: Final = 50_000

MAX_IRREGULAR_BYTES: Final = 1 << 16
MAX_IRREGULAR_ITEMS: Final = 64
"""Limits of an irregular sequence that may still be left to pydicom."""

_SYNTAXES: Final = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}
_ITEM_TAGS: Final = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")


class ViewFile:
    """A read-only file over bytes, without a copy of them."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data, self._at = data, 0

    def read(self, size: int = -1) -> bytes:
        """Read as a file does."""
        end = len(self._data) if size < 0 else min(self._at + size, len(self._data))
        begin, self._at = self._at, max(self._at, end)
        return bytes(self._data[begin:end])

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Seek as in a file; an offset beyond the end is valid, and nothing is read there."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._data)}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def tell(self) -> int:
        """Return the current offset."""
        return self._at


class BoundedReader:
    """A file for pydicom that raises when too much is read from it.

    Args:
        file: The file to read.
        max_bytes: Total number of bytes that may be read.
    """

    def __init__(self, file: BinaryIO | ViewFile, *, max_bytes: int) -> None:
        self._file, self._left = file, max_bytes
        self._reads = MAX_ELEMENTS * READS_PER_ELEMENT
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Read as a file does.

        Raises:
            UnreadableFile: The data set consists of too many elements or bytes.
        """
        data = self._file.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        self._reads -= 1
        if self._left < 0 or self._reads < 0:
            raise UnreadableFile("The data set is irregular and too large to be parsed.")
        return data


def read_irregular(file: BinaryIO, *, pixels: bool, force: bool, max_bytes: int) -> FileDataset:
    """Read an irregular file.

    Raises:
        UnreadableFile: It exceeds a bound.
        Exception: Whatever pydicom raises.
    """
    file.seek(0)
    reader: BinaryIO = BoundedReader(file, max_bytes=max_bytes)  # type: ignore[assignment]
    dataset = pydicom.dcmread(reader, stop_before_pixels=not pixels, force=force)
    check_nesting(dataset)
    return dataset


def check_nesting(dataset: Dataset) -> None:
    """Check depth and items of what pydicom has read; it converts inner sequences on access.

    Raises:
        UnreadableFile: It is nested too deeply, or has too many items.
    """
    pending, items = [(dataset, 0)], 0
    while pending:
        one, depth = pending.pop()
        for tag in list(one.keys()):
            element = one.get_item(tag)
            if isinstance(element, RawDataElement):
                _check_raw(one, tag, element, depth)
            elif element is not None and element.VR == "SQ":
                pending += [(item, depth + 1) for item in element.value]
                items += len(element.value)
        if depth >= MAX_DEPTH or items > SINGLE_FRAME.items:
            raise UnreadableFile("The data set's sequences are nested too deeply or too long.")


def _check_raw(dataset: Dataset, tag: BaseTag, element: RawDataElement, depth: int) -> None:
    if not is_sequence(tag, (element.VR or "").encode()):
        return
    syntax = _SYNTAXES.get((element.is_implicit_VR, element.is_little_endian))
    if syntax is None or not is_harmless(element.value or b"", syntax, depth):
        del dataset[tag]


def is_harmless(value: bytes, transfer_syntax: str, depth: int = 0) -> bool:
    """Whether a sequence can be left to pydicom: regular and within bounds, or irregular and small.

    Args:
        value: Its items, encoded.
        transfer_syntax: Their transfer syntax.
        depth: Number of sequences around it.

    Raises:
        UnreadableFile: It is nested too deeply or has too many elements or items.
    """
    walk = ElementWalk(transfer_syntax)
    walk.enter_sequence(len(value), depth)
    walk.advance(value)
    return not walk.skipped or is_small(value)


def is_small(value: bytes) -> bool:
    """Whether an irregular sequence is within the limits for pydicom."""
    items = max(value.count(tag) for tag in _ITEM_TAGS)
    return len(value) <= MAX_IRREGULAR_BYTES and items <= MAX_IRREGULAR_ITEMS

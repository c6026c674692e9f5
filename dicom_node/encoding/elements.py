"""Bounded walk over the elements of an encoded data set, without recursion or building objects.

The receiver checks data sets with it, and file readers choose with it which elements pydicom gets
to parse. It enters every sequence, also of defined length, and stops at the first bound that is
exceeded; the standard itself sets none (PS3.5, chapter 7).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from pydicom._dicom_dict import DicomDictionary
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_node.errors import UnreadableFile

MAX_DEPTH: Final = 32
"""Depth of nested sequences, of defined and undefined length."""

PIXEL_DATA: Final = 0x7FE0_0010
UNDEFINED: Final = 0xFFFF_FFFF
ITEM: Final = 0xFFFE_E000

_ITEM_END, _SEQUENCE_END, _DELIMITERS = 0xFFFE_E00D, 0xFFFE_E0DD, 0xFFFE
_FRAGMENTED, _ITEMIZED = (b"", b"OB", b"OW"), (b"", b"SQ", b"UN")
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
"""VRs with a length of 32 and of 16 bits (PS3.5, 7.1.2)."""

_SEQUENCES = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ")
"""Tags that are sequences where the file states no VR."""

_OPEN = -1
_TOO_MANY = "The data set has more than {} {}, which no image needs."


@dataclass(frozen=True)
class Bounds:
    """Limits on the content of a data set.

    Attributes:
        elements: Elements at any depth.
        items: Items of sequences, and fragments of pixel data.
        header_bytes: Bytes outside the pixel data; None: unlimited.
    """

    elements: int
    items: int
    header_bytes: int | None = None


SINGLE_FRAME: Final = Bounds(elements=100_000, items=20_000)
"""A single-frame image has some hundred elements; with private lists of a maker some thousand."""

MULTI_FRAME: Final = Bounds(elements=2_000_000, items=400_000)
"""Enhanced images describe each frame by about thirty elements in a dozen items."""


def is_sequence(tag: int, vr: bytes) -> bool:
    """Whether a value of defined length consists of items; an empty VR means that none is stated.

    For VR UN the dictionary decides, as in pydicom.
    """
    return vr == b"SQ" or (vr in (b"", b"UN") and tag in _SEQUENCES)


class IrregularDataSet(Exception):  # noqa: N818 - the name says what the data set is
    """A data set that breaks the standard's encoding rules, and may be readable nevertheless."""


@dataclass(slots=True, frozen=True)
class _Frame:
    """The level that the walk is in: elements, items of a sequence, or pixel data fragments."""

    limit: int
    explicit: bool
    items: bool = False
    fragments: bool = False


class ElementWalk:
    """A walk over a data set, in as many steps as it arrives in.

    Args:
        transfer_syntax: Its transfer syntax; of a deflated data set that of the inflated bytes.
        bounds: Limits on its content.

    Attributes:
        offset: Offset of the next step; beyond the end while a value is incomplete.
        elements: Elements so far, at any depth.
        items: Items and fragments so far.
        pixel_bytes: Length of the pixel data's value so far.
        skipped: Values of defined length, so far, whose content is irregular.
    """

    watched_tags: frozenset[int] | None = None
    """Tags for which ``_on_element`` is called; None: all."""

    def __init__(self, transfer_syntax: str, bounds: Bounds = SINGLE_FRAME) -> None:
        order = ">" if transfer_syntax == ExplicitVRBigEndian else "<"
        self._tag = struct.Struct(f"{order}HH")
        self._long, self._short = struct.Struct(f"{order}I"), struct.Struct(f"{order}H")
        self._bounds, self._max_elements = bounds, bounds.elements
        self._explicit = transfer_syntax != ImplicitVRLittleEndian
        self.reset()

    def reset(self) -> None:
        """Return to the beginning of the data set."""
        self.offset = self.elements = self.items = self.pixel_bytes = self.skipped = 0
        self._last, self._pixels_from, self._outer_depth = -1, -1, 0
        self._stack: list[_Frame] = []
        self._frame = _Frame(_OPEN, self._explicit)

    @property
    def is_at_top_level(self) -> bool:
        """Whether the walk is between two elements of the top level."""
        return not self._stack

    def enter_sequence(self, size: int, depth: int) -> None:
        """Begin within the value of a sequence of this size, itself nested ``depth`` deep."""
        self._stack, self._frame = [self._frame], _Frame(size, self._explicit, items=True)
        self._outer_depth = depth

    def advance(self, data: bytes | memoryview, base: int = 0) -> None:
        """Continue as far as the bytes reach.

        Args:
            data: Part of the data set.
            base: Offset of this part in the data set.

        Raises:
            UnreadableFile: A bound is exceeded.
            IrregularDataSet: The data set breaks the encoding rules. Irregular content of a value
                of defined length is skipped with that value instead.
        """
        end = base + len(data)
        while self.offset < end or (self._stack and self.offset == self._frame.limit):
            try:
                if not self._step(data, base, end):
                    return
            except IrregularDataSet:
                if not self._skip_value():
                    raise

    def _on_element(
        self,
        data: bytes | memoryview,
        base: int,
        tag: int,
        vr: bytes,
        value: int,
        length: int,
    ) -> bool:
        """Handle an element of the top level; return False to wait until its value is complete.

        Args:
            data: Part of the data set.
            base: Offset of this part in the data set.
            tag: The element's tag.
            vr: Its VR; empty where none is stated.
            value: Offset of its value in the data set.
            length: Length of its value; ``UNDEFINED`` for one that ends with a delimiter.
        """
        return True

    def _step(self, data: bytes | memoryview, base: int, end: int) -> bool:
        """Step over one element, item or delimiter; return False when its head is incomplete."""
        frame, offset = self._frame, self.offset
        if offset == frame.limit:
            self._leave(offset)
            return True
        if frame.limit >= 0 and offset + 8 > frame.limit:
            raise IrregularDataSet
        if offset + 8 > end:
            return False
        group, number = self._tag.unpack_from(data, offset - base)
        tag = group << 16 | number
        if frame.items:
            self._item(tag, offset, self._long.unpack_from(data, offset - base + 4)[0])
            return True
        if group == _DELIMITERS:
            if tag != _ITEM_END or not self._stack or frame.limit >= 0:
                raise IrregularDataSet
            self._leave(offset + 8)
            return True
        return self._element(data, base, end, tag)

    def _element(self, data: bytes | memoryview, base: int, end: int, tag: int) -> bool:
        at, frame = self.offset - base, self._frame
        vr, value = b"", at + 8
        if not frame.explicit:
            length = self._long.unpack_from(data, at + 4)[0]
        elif (vr := bytes(data[at + 4 : value - 2])) in _SHORT:
            length = self._short.unpack_from(data, at + 6)[0]
        elif vr not in _LONG:
            raise IrregularDataSet
        elif base + at + 12 > end:
            return False
        else:
            value, length = at + 12, self._long.unpack_from(data, at + 8)[0]
        if not self._stack:
            if tag <= self._last:
                raise IrregularDataSet
            watched = self.watched_tags is None or tag in self.watched_tags
            if watched and not self._on_element(data, base, tag, vr, base + value, length):
                return False
            self._last = tag
        if vr in _SHORT and frame.limit < 0:
            self.offset = base + value + length
        else:
            self._enter_or_pass(base + value, length, vr, tag)
        self.elements += 1
        if self.elements > self._max_elements:
            raise UnreadableFile(_TOO_MANY.format(self._max_elements, "elements"))
        return True

    def _pass(self, end: int) -> None:
        if 0 <= self._frame.limit < end:
            raise IrregularDataSet
        self.offset = end

    def _enter_or_pass(self, value: int, length: int, vr: bytes, tag: int) -> None:
        frame = self._frame
        if length == UNDEFINED:
            fragments = tag == PIXEL_DATA
            if fragments and not self._stack:
                self._pixels_from = value
            if not self._stack and vr not in (_FRAGMENTED if fragments else _ITEMIZED):
                raise IrregularDataSet
            self._enter(value, _OPEN, frame.explicit and vr != b"UN", fragments=fragments)
            return
        self._pass(value + length)
        if tag == PIXEL_DATA and not self._stack:
            self.pixel_bytes = length
        self._check_header()
        if is_sequence(tag, vr):
            end, self.offset = self.offset, value
            self._enter(value, end, frame.explicit and vr != b"UN")  # UN: PS3.5, 6.2.2

    def _check_header(self) -> None:
        """Check the limit on bytes outside the pixel data, before they are read."""
        limit = self._bounds.header_bytes
        if limit is not None and self.offset - self.pixel_bytes > limit:
            raise UnreadableFile(
                f"The data set has more than {limit >> 20} MiB outside its pixel data."
            )

    def _item(self, tag: int, offset: int, length: int) -> None:
        frame = self._frame
        if tag == _SEQUENCE_END and frame.limit < 0:
            self._leave(offset + 8)
            return
        if tag != ITEM:
            raise IrregularDataSet
        self.items += 1
        if self.items > self._bounds.items:
            raise UnreadableFile(_TOO_MANY.format(self._bounds.items, "items"))
        value, end = offset + 8, _OPEN if length == UNDEFINED else offset + 8 + length
        if 0 <= frame.limit < end or (frame.fragments and end == _OPEN):
            raise IrregularDataSet
        if frame.fragments:
            self.offset = end
        else:
            self._stack.append(frame)
            self._frame, self.offset = _Frame(end, frame.explicit), value

    def _enter(self, value: int, limit: int, explicit: bool, *, fragments: bool = False) -> None:
        if (len(self._stack) + 1) // 2 + self._outer_depth >= MAX_DEPTH:
            raise UnreadableFile("The data set's sequences are nested too deeply.")
        self._stack.append(self._frame)
        self._frame, self.offset = _Frame(limit, explicit, True, fragments), value

    def _leave(self, offset: int) -> None:
        self._frame, self.offset = self._stack.pop(), offset
        if not self._stack and self._pixels_from >= 0:
            self.pixel_bytes, self._pixels_from = offset - self._pixels_from, -1

    def _skip_value(self) -> bool:
        """Skip the outermost value of defined length; return False if none is open."""
        frames = [*self._stack, self._frame]
        for depth, frame in enumerate(frames):
            if frame.limit >= 0:
                self._stack, self._frame = frames[:depth], frame
                self.offset = frame.limit
                self.skipped += 1
                return True
        return False

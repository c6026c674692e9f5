"""A bounded walk over the elements of an encoded data set: no recursion, and nothing is built.

The one walk of the product. The receiver checks with it what comes in, and whoever reads a file
chooses with it what pydicom gets to see. It goes into every sequence, those of defined length too,
and stops at the first bound that is exceeded (PS3.5, chapter 7, knows none of them).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from pydicom._dicom_dict import DicomDictionary
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_node.errors import UnreadableFile

MAX_DEPTH: Final = 32
"""Sequences within sequences, of defined and of undefined length."""

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
    """How much a data set may consist of.

    Attributes:
        elements: Elements at any depth.
        items: Items of sequences, and fragments of pixel data.
        header_bytes: Bytes outside the pixel data; None: as many as were sent.
    """

    elements: int
    items: int
    header_bytes: int | None = None


SINGLE_FRAME: Final = Bounds(elements=100_000, items=20_000)
"""An image of one frame has some hundred elements; those with maker's lists some thousands."""

MULTI_FRAME: Final = Bounds(elements=2_000_000, items=400_000)
"""Enhanced images describe each frame by some thirty elements in a dozen items."""


def is_sequence(tag: int, vr: bytes) -> bool:
    """Whether a value of defined length consists of items; an empty VR is one that is not stated.

    An unknown VR is that of the dictionary, as pydicom takes it.
    """
    return vr == b"SQ" or (vr in (b"", b"UN") and tag in _SEQUENCES)


class Odd(Exception):  # noqa: N818 - the name says what the data set is
    """Not as the standard says, and perhaps readable all the same."""


@dataclass(slots=True, frozen=True)
class _Frame:
    """What the walk is in: elements, items of a sequence, or fragments of pixel data."""

    limit: int
    explicit: bool
    items: bool = False
    fragments: bool = False


class ElementWalk:
    """A walk over a data set, in as many steps as it arrives in.

    Args:
        transfer_syntax: In which it is encoded; for a deflated one that of the inflated.
        bounds: How much it may consist of.

    Attributes:
        offset: Where the walk goes on; beyond the end while a value is not whole.
        elements: Elements so far, at any depth.
        items: Items and fragments so far.
        pixel_bytes: Length of the pixel data's value so far.
        passed_over: Values of defined length so far whose content is odd.
    """

    noted: frozenset[int] | None = None
    """Tags that ``_found`` is asked about; None: all."""

    def __init__(self, transfer_syntax: str, bounds: Bounds = SINGLE_FRAME) -> None:
        order = ">" if transfer_syntax == ExplicitVRBigEndian else "<"
        self._tag = struct.Struct(f"{order}HH")
        self._long, self._short = struct.Struct(f"{order}I"), struct.Struct(f"{order}H")
        self._bounds, self._most_elements = bounds, bounds.elements
        self._explicit = transfer_syntax != ImplicitVRLittleEndian
        self.start_again()

    def start_again(self) -> None:
        """Forget everything seen so far."""
        self.offset = self.elements = self.items = self.pixel_bytes = self.passed_over = 0
        self._last, self._pixels_from, self._outer_depth = -1, -1, 0
        self._stack: list[_Frame] = []
        self._frame = _Frame(_OPEN, self._explicit)

    @property
    def is_between(self) -> bool:
        """Whether the walk stands between two elements of the top level."""
        return not self._stack

    def enter_sequence(self, size: int, depth: int) -> None:
        """Begin within the value of a sequence that is itself ``depth`` sequences deep."""
        self._stack, self._frame = [self._frame], _Frame(size, self._explicit, items=True)
        self._outer_depth = depth

    def go(self, data: bytes | memoryview, base: int = 0) -> None:
        """Go on as far as the bytes reach.

        Args:
            data: Part of the data set.
            base: Where in the data set they begin.

        Raises:
            UnreadableFile: A bound is exceeded.
            Odd: The data set is not as the standard says. What is wrong within a value of defined
                length is passed over with that value.
        """
        end = base + len(data)
        while self.offset < end or (self._stack and self.offset == self._frame.limit):
            try:
                if not self._step(data, base, end):
                    return
            except Odd:
                if not self._pass_over():
                    raise

    def _found(
        self,
        data: bytes | memoryview,
        base: int,
        tag: int,
        vr: bytes,
        value: int,
        length: int,
    ) -> bool:
        """Take note of an element of the top level; False to wait until its value is there.

        Args:
            data: Part of the data set.
            base: Where in the data set it begins.
            tag: The element's tag.
            vr: Its VR; empty where the file states none.
            value: Where in the data set its value begins.
            length: Of its value; ``UNDEFINED`` for one that ends with a delimiter.
        """
        return True

    def _step(self, data: bytes | memoryview, base: int, end: int) -> bool:
        """Take one element, item or delimiter; False when its head is not there yet."""
        frame, offset = self._frame, self.offset
        if offset == frame.limit:
            self._leave(offset)
            return True
        if frame.limit >= 0 and offset + 8 > frame.limit:
            raise Odd
        if offset + 8 > end:
            return False
        group, number = self._tag.unpack_from(data, offset - base)
        tag = group << 16 | number
        if frame.items:
            self._item(tag, offset, self._long.unpack_from(data, offset - base + 4)[0])
            return True
        if group == _DELIMITERS:
            if tag != _ITEM_END or not self._stack or frame.limit >= 0:
                raise Odd
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
            raise Odd
        elif base + at + 12 > end:
            return False
        else:
            value, length = at + 12, self._long.unpack_from(data, at + 8)[0]
        if not self._stack:
            if tag <= self._last:
                raise Odd
            noted = self.noted is None or tag in self.noted
            if noted and not self._found(data, base, tag, vr, base + value, length):
                return False
            self._last = tag
        if vr in _SHORT and frame.limit < 0:
            self.offset = base + value + length
        else:
            self._enter_or_pass(base + value, length, vr, tag)
        self.elements += 1
        if self.elements > self._most_elements:
            raise UnreadableFile(_TOO_MANY.format(self._most_elements, "elements"))
        return True

    def _pass(self, end: int) -> None:
        if 0 <= self._frame.limit < end:
            raise Odd
        self.offset = end

    def _enter_or_pass(self, value: int, length: int, vr: bytes, tag: int) -> None:
        frame = self._frame
        if length == UNDEFINED:
            fragments = tag == PIXEL_DATA
            if fragments and not self._stack:
                self._pixels_from = value
            if not self._stack and vr not in (_FRAGMENTED if fragments else _ITEMIZED):
                raise Odd
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
        """Bound what lies outside the pixel data, before it comes."""
        most = self._bounds.header_bytes
        if most is not None and self.offset - self.pixel_bytes > most:
            raise UnreadableFile(
                f"The data set has more than {most >> 20} MiB outside its pixel data."
            )

    def _item(self, tag: int, offset: int, length: int) -> None:
        frame = self._frame
        if tag == _SEQUENCE_END and frame.limit < 0:
            self._leave(offset + 8)
            return
        if tag != ITEM:
            raise Odd
        self.items += 1
        if self.items > self._bounds.items:
            raise UnreadableFile(_TOO_MANY.format(self._bounds.items, "items"))
        value, end = offset + 8, _OPEN if length == UNDEFINED else offset + 8 + length
        if 0 <= frame.limit < end or (frame.fragments and end == _OPEN):
            raise Odd
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

    def _pass_over(self) -> bool:
        """Go to the end of the outermost value of defined length, if there is one around."""
        frames = [*self._stack, self._frame]
        for depth, frame in enumerate(frames):
            if frame.limit >= 0:
                self._stack, self._frame = frames[:depth], frame
                self.offset = frame.limit
                self.passed_over += 1
                return True
        return False

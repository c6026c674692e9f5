"""What the receiver must know of a data set before it may answer: few tags, and that it is whole.

A walk over the elements, without pixels and without building a data set: what costs pydicom a
millisecond costs a tenth of it here. Whatever the walk finds odd is left to pydicom's judgement;
what is cut off is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from dicom_node.errors import InputError, UnreadableFile
from dicom_node.net.inflation import inflated
from dicom_node.net.leniency import read_values
from dicom_node.net.lenient_uid import is_usable_uid

SOP_CLASS_UID, SOP_INSTANCE_UID = 0x0008_0016, 0x0008_0018
PATIENT_ID = 0x0010_0020
STUDY_UID, SERIES_UID = 0x0020_000D, 0x0020_000E

NEEDED = {
    SOP_CLASS_UID: "SOPClassUID",
    SOP_INSTANCE_UID: "SOPInstanceUID",
    STUDY_UID: "StudyInstanceUID",
    SERIES_UID: "SeriesInstanceUID",
}
"""Without these an image cannot be kept or found again."""

LARGEST_KEPT_BYTES = 1 << 25
"""Most of a deflated data set that is looked at in one piece."""

DEEPEST_SEQUENCE = 32

_WANTED = {*NEEDED, PATIENT_ID}
_CHARACTER_SET = 0x0008_0005
_VRS = {**dict.fromkeys(NEEDED, b"UI"), PATIENT_ID: b"LO", _CHARACTER_SET: b"CS"}
_PRINTABLE = frozenset(range(0x20, 0x7F))
_PIXEL_DATA = 0x7FE0_0010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD
_UNDEFINED = 0xFFFF_FFFF
_FRAGMENTED, _ITEMIZED = (b"", b"OB", b"OW"), (b"", b"SQ", b"UN")
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
"""VRs with a length of 32 and of 16 bits (PS3.5, 7.1.2)."""


class WrongInstance(InputError):  # noqa: N818 - the name says what was sent
    """The data set is not the instance that the C-STORE request announced."""


class _Odd(Exception):  # noqa: N818 - the name says what it is
    """Not as the standard says, and perhaps readable all the same."""


@dataclass(frozen=True)
class Header:
    """The tags that the receiver needs.

    Attributes:
        patient_id: For the audit trail only; empty when it has none.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    patient_id: str


@dataclass
class Walk:
    """A walk over the top-level elements of a data set, in as many steps as it arrives in.

    Attributes:
        offset: Where the next element begins; beyond the end while an element is not whole.
        values: The wanted elements found so far.
        has_begun: Whether its first bytes were looked at; only they may be taken for its beginning.
    """

    transfer_syntax: str
    offset: int = 0
    values: dict[int, bytes] = field(default_factory=dict)
    has_begun: bool = False
    _last: int = -1

    def __post_init__(self) -> None:
        self._explicit = self.transfer_syntax != ImplicitVRLittleEndian
        self._order = ">" if self.transfer_syntax == ExplicitVRBigEndian else "<"
        self._tag = struct.Struct(f"{self._order}HH")
        self._long = struct.Struct(f"{self._order}I")
        self._short = struct.Struct(f"{self._order}H")

    def go(self, data: bytes | memoryview, base: int = 0) -> None:
        """Go on as far as the bytes reach.

        Args:
            data: Part of the data set.
            base: Where in the data set they begin.

        Raises:
            UnreadableFile: An element is damaged.
        """
        end = base + len(data)
        while self.offset < end:
            following = self._element(data, self.offset - base, len(data))
            if following < 0:
                return
            self.offset = base + following

    def _element(self, data: bytes | memoryview, at: int, end: int) -> int:
        """Where the element at ``at`` ends; -1 when its end cannot be seen yet."""
        tag, vr, value, length = self._head(data, at, end, explicit=self._explicit)
        if value < 0:
            return -1
        if tag <= self._last or tag >> 16 == 0xFFFE:
            raise _Odd
        if length == _UNDEFINED:
            if vr not in (_FRAGMENTED if tag == _PIXEL_DATA else _ITEMIZED):
                raise _Odd
            nested = self._sequence(data, value, end, vr, tag)
            if nested < 0:
                return -1
            value, length = nested, 0
        elif tag in _VRS:
            if value + length > end:
                return -1
            self._note(tag, vr, bytes(data[value : value + length]))
        self._last = tag
        return value + length

    def _note(self, tag: int, vr: bytes, value: bytes) -> None:
        """Keep a wanted value. A damaged character set makes a whole data set unreadable."""
        if vr not in (b"", _VRS[tag]):
            raise _Odd
        if tag == _CHARACTER_SET and not _PRINTABLE.issuperset(value.rstrip(b"\0")):
            raise _Odd
        self.values[tag] = value

    def _head(
        self, data: bytes | memoryview, at: int, end: int, *, explicit: bool
    ) -> tuple[int, bytes, int, int]:
        """Tag, VR, offset of the value (-1: not there yet) and its length."""
        if at + 8 > end:
            return 0, b"", -1, 0
        group, element = self._tag.unpack_from(data, at)
        tag = group << 16 | element
        if not explicit or group == 0xFFFE:
            return tag, b"", at + 8, self._long.unpack_from(data, at + 4)[0]
        vr = bytes(data[at + 4 : at + 6])
        if vr in _SHORT:
            return tag, vr, at + 8, self._short.unpack_from(data, at + 6)[0]
        if vr not in _LONG:
            raise _Odd
        if at + 12 > end:
            return tag, vr, -1, 0
        return tag, vr, at + 12, self._long.unpack_from(data, at + 8)[0]

    def _sequence(
        self, data: bytes | memoryview, at: int, end: int, vr: bytes, tag: int, depth: int = 0
    ) -> int:
        """Where a value of undefined length ends: items, or fragments of encapsulated pixels."""
        if depth > DEEPEST_SEQUENCE:
            raise UnreadableFile("The data set's sequences are nested too deeply.")
        explicit = self._explicit and vr != b"UN"  # PS3.5, 6.2.2: then the content is implicit
        while True:
            kind, _, value, length = self._head(data, at, end, explicit=explicit)
            if value < 0:
                return -1
            if kind == _SEQUENCE_END:
                return value
            if kind != _ITEM:
                raise _Odd
            if length != _UNDEFINED:
                at = value + length
            elif tag == _PIXEL_DATA:
                raise _Odd
            else:
                at = self._item(data, value, end, explicit=explicit, depth=depth)
            if at < 0 or at > end:
                return -1

    def _item(
        self, data: bytes | memoryview, at: int, end: int, *, explicit: bool, depth: int
    ) -> int:
        while True:
            tag, vr, value, length = self._head(data, at, end, explicit=explicit)
            if value < 0:
                return -1
            if tag == _ITEM_END:
                return value
            if length == _UNDEFINED:
                inner = vr if explicit else b"UN"
                at = self._sequence(data, value, end, inner, tag, depth + 1)
            else:
                at = value + length
            if at < 0 or at > end:
                return -1


def read_header(walk: Walk, data: bytes | memoryview) -> Header:
    """Finish a walk over a whole data set.

    Args:
        walk: Begun or not; of the data set's transfer syntax.
        data: The whole data set, encoded.

    Raises:
        UnreadableFile: The data set is cut off or damaged, or a UID is missing or malformed.
    """
    if walk.transfer_syntax == DeflatedExplicitVRLittleEndian:
        return _read_deflated(data)
    try:
        walk.go(data[walk.offset :], walk.offset)
    except _Odd:
        return _judged_by_pydicom(data, walk)
    return _checked(walk, len(data))


def _checked(walk: Walk, size: int) -> Header:
    if walk.offset != size:
        raise UnreadableFile("The data set is cut off.")
    texts = {tag: value.decode("ascii", "replace") for tag, value in walk.values.items()}
    return _header({tag: text.strip("\0 ") for tag, text in texts.items()})


def begin_walk(walk: Walk, data: bytes | memoryview) -> None:
    """Walk over the first bytes of a data set while the others are still on their way."""
    if walk.has_begun or walk.transfer_syntax == DeflatedExplicitVRLittleEndian:
        return
    walk.has_begun = True
    try:
        walk.go(data)
    except (_Odd, UnreadableFile):
        # Finding it again at the end costs little and happens seldom.
        walk.offset, walk.values, walk._last = 0, {}, -1


def check_announced(header: Header, *, sop_class_uid: str, sop_instance_uid: str) -> None:
    """See that a data set is what its C-STORE request announced (PS3.4, B.2.3: status A9xx).

    Raises:
        WrongInstance: SOP class or SOP instance differ.
    """
    if header.sop_class_uid != sop_class_uid:
        raise WrongInstance("The data set is of another SOP class than the request announced.")
    if header.sop_instance_uid != sop_instance_uid:
        raise WrongInstance("The data set is another SOP instance than the request announced.")


def _header(texts: dict[int, str]) -> Header:
    for tag, keyword in NEEDED.items():
        if not is_usable_uid(texts.get(tag, "")):
            raise UnreadableFile(f"The data set has no usable {keyword}.")
    return Header(
        sop_class_uid=texts[SOP_CLASS_UID],
        sop_instance_uid=texts[SOP_INSTANCE_UID],
        study_uid=texts[STUDY_UID],
        series_uid=texts[SERIES_UID],
        patient_id=texts.get(PATIENT_ID, ""),
    )


def _read_deflated(data: bytes | memoryview) -> Header:
    """The header of a deflated data set, of which never more than a piece is in memory."""
    walk, kept, base = Walk(""), b"", 0
    try:
        for piece in inflated(data):
            kept += piece
            walk.go(kept, base)
            passed = min(walk.offset - base, len(kept))
            kept, base = kept[passed:], base + passed
            if len(kept) > LARGEST_KEPT_BYTES:
                raise UnreadableFile("An element of the deflated data set is far too large.")
    except _Odd:
        return _judged_by_pydicom(b"".join(inflated(data, LARGEST_KEPT_BYTES)), Walk(""))
    return _checked(walk, base + len(kept))


def _judged_by_pydicom(data: bytes | memoryview, walk: Walk) -> Header:
    """The header of a data set that breaks a rule which pydicom knows how to forgive."""
    return _header(read_values(data, walk.transfer_syntax, _WANTED))

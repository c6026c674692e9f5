"""Header of a received data set: the few tags that the receiver needs, and that it is complete.

A walk over the elements, without pixels and without building a data set, takes a tenth of the time
of pydicom. Data sets that the walk finds irregular are left to pydicom; what is cut off is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
)

from dicom_node.encoding.elements import SINGLE_FRAME, Bounds, ElementWalk, IrregularDataSet
from dicom_node.encoding.inflation import MAX_INFLATED_HEADER_BYTES, inflated
from dicom_node.encoding.uid import is_usable_uid, names_instance
from dicom_node.errors import InputError, UnreadableFile
from dicom_node.receiving.header_fallback import read_values

SOP_CLASS_UID, SOP_INSTANCE_UID = 0x0008_0016, 0x0008_0018
PATIENT_ID = 0x0010_0020
STUDY_UID, SERIES_UID = 0x0020_000D, 0x0020_000E

NEEDED = {
    SOP_CLASS_UID: "SOPClassUID",
    SOP_INSTANCE_UID: "SOPInstanceUID",
    STUDY_UID: "StudyInstanceUID",
    SERIES_UID: "SeriesInstanceUID",
}
"""UIDs without which an image cannot be stored or found again."""

MAX_VALUE_BYTES = 1 << 16
"""Longest value that is read; UIDs and patient IDs have at most 64 bytes."""

_WANTED = {*NEEDED, PATIENT_ID}
_CHARACTER_SET = 0x0008_0005
_VRS = {**dict.fromkeys(NEEDED, b"UI"), PATIENT_ID: b"LO", _CHARACTER_SET: b"CS"}
_PRINTABLE = frozenset(range(0x20, 0x7F))


class WrongInstance(InputError):  # noqa: N818 - the name says what was sent
    """The data set is not the instance that the C-STORE request announced."""


@dataclass(frozen=True)
class Header:
    """Values of the tags that the receiver needs.

    Attributes:
        patient_id: For the audit trail only; empty when absent.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    patient_id: str


class HeaderWalk(ElementWalk):
    """A walk over the elements that keeps the values the receiver needs.

    Args:
        transfer_syntax: Transfer syntax of the data set.
        bounds: Limits on its elements and items.

    Attributes:
        values: Encoded values found so far, by tag.
        has_begun: Whether the first bytes of the data set were walked over already.
    """

    watched_tags = frozenset(_VRS)

    def __init__(self, transfer_syntax: str, bounds: Bounds = SINGLE_FRAME) -> None:
        super().__init__(transfer_syntax, bounds)
        self.transfer_syntax, self.bounds = transfer_syntax, bounds
        self.has_begun = False

    def reset(self) -> None:
        """Forget everything seen so far."""
        super().reset()
        self.values: dict[int, bytes] = {}

    def _on_element(
        self, data: bytes | memoryview, base: int, tag: int, vr: bytes, value: int, length: int
    ) -> bool:
        """Keep a needed value; a damaged character set makes the whole data set irregular."""
        if vr not in (b"", _VRS[tag]) or length > MAX_VALUE_BYTES:
            raise IrregularDataSet
        begin = value - base
        if begin + length > len(data):
            return False
        found = bytes(data[begin : begin + length])
        if tag == _CHARACTER_SET and not _PRINTABLE.issuperset(found.rstrip(b"\0")):
            raise IrregularDataSet
        self.values[tag] = found
        return True


def read_header(walk: HeaderWalk, data: bytes | memoryview) -> Header:
    """Finish the walk over a whole data set and return its header.

    Args:
        walk: A walk in the data set's transfer syntax, begun or not.
        data: The whole data set, encoded.

    Raises:
        UnreadableFile: The data set is cut off or damaged, or a UID is missing or malformed.
    """
    if walk.transfer_syntax == DeflatedExplicitVRLittleEndian:
        return _read_deflated(data, walk.bounds)
    try:
        walk.advance(data[walk.offset :], walk.offset)
    except IrregularDataSet:
        return _read_irregular(data, walk)
    return _checked(walk, len(data))


def _checked(walk: HeaderWalk, size: int) -> Header:
    if walk.offset != size or not walk.is_at_top_level:
        raise UnreadableFile("The data set is cut off.")
    texts = {tag: value.decode("ascii", "replace") for tag, value in walk.values.items()}
    return _header({tag: text.strip("\0 ") for tag, text in texts.items()})


def begin_walk(walk: HeaderWalk, data: bytes | memoryview) -> None:
    """HeaderWalk over the first bytes of a data set before the others have arrived."""
    if walk.has_begun or walk.transfer_syntax == DeflatedExplicitVRLittleEndian:
        return
    walk.has_begun = True
    try:
        walk.advance(data)
    except (IrregularDataSet, UnreadableFile):
        # The end of the data set finds it again; that is rare and cheap.
        walk.reset()


def instance_of(walk: HeaderWalk, announced: str) -> str:
    """The SOP Instance UID of a data set, which its request may have announced truncated."""
    found = walk.values.get(SOP_INSTANCE_UID, b"").decode("ascii", "replace").strip("\0 ")
    return found if names_instance(announced, found) else announced


def check_announced(header: Header, *, sop_class_uid: str, sop_instance_uid: str) -> None:
    """Check that a data set is what its C-STORE request announced (PS3.4, B.2.3: status A9xx).

    Raises:
        WrongInstance: SOP class or SOP instance differs.
    """
    if header.sop_class_uid != sop_class_uid:
        raise WrongInstance("The data set is of another SOP class than the request announced.")
    if not names_instance(sop_instance_uid, header.sop_instance_uid):
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


def _read_deflated(data: bytes | memoryview, bounds: Bounds) -> Header:
    """Read the header of a deflated data set with only a piece of it in memory."""
    most = MAX_INFLATED_HEADER_BYTES
    walk, kept, base = HeaderWalk("", replace(bounds, header_bytes=most)), b"", 0
    try:
        for piece in inflated(data):
            kept += piece
            walk.advance(kept, base)
            passed = min(walk.offset - base, len(kept))
            kept, base = kept[passed:], base + passed
    except IrregularDataSet:
        return _read_irregular(b"".join(inflated(data, most)), HeaderWalk(""))
    return _checked(walk, base + len(kept))


def _read_irregular(data: bytes | memoryview, walk: HeaderWalk) -> Header:
    """Read the header of an irregular data set by pydicom."""
    return _header(read_values(data, walk.transfer_syntax, _WANTED))

"""Actual transfer syntax of a data set whose sender has labelled it wrongly.

A sender that writes implicit VR under an explicit syntax, or the other way round, will do so again
after a refusal, and its images would never arrive. The bytes stay unchanged, and the stored file
states their actual syntax (PS3.5, annex A.1 and A.2).
"""

from __future__ import annotations

import struct

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR

_LONG = frozenset(vr.value.encode() for vr in EXPLICIT_VR_LENGTH_32)
_KNOWN = frozenset(vr.value.encode() for vr in STANDARD_VR)
_LABELS = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def actual_syntax(announced: str, head: bytes | memoryview) -> str:
    """Determine the transfer syntax of a data set by its first two elements.

    Args:
        announced: The negotiated or stated one. Only implicit and explicit VR little endian are
            mistaken for each other; any other is returned unchanged.
        head: The first bytes of the data set.

    Returns:
        The other of the two if the bytes are valid in it and not in the announced one.
    """
    if announced not in _LABELS:
        return announced
    is_explicit = announced == ExplicitVRLittleEndian
    if _makes_sense(head, explicit=is_explicit) or not _makes_sense(head, explicit=not is_explicit):
        return announced
    return str(ImplicitVRLittleEndian if is_explicit else ExplicitVRLittleEndian)


def _makes_sense(head: bytes | memoryview, *, explicit: bool) -> bool:
    """Whether the bytes begin with an element that is followed by another one, or by the end."""
    first = _element(head, 0, explicit=explicit)
    if first is None:
        return False
    tag, end = first
    if end == len(head):
        return True
    second = _element(head, end, explicit=explicit)
    return second is not None and second[0] > tag


def _element(head: bytes | memoryview, at: int, *, explicit: bool) -> tuple[int, int] | None:
    """Tag and end offset of an element; None if the bytes cannot be one."""
    if at + 12 > len(head):
        return None
    group, number, length = struct.unpack_from("<HHI", head, at)
    begin = at + 8
    if explicit:
        vr = bytes(head[at + 4 : at + 6])
        if vr not in _KNOWN:
            return None
        length >>= 16
        if vr in _LONG:
            begin, length = at + 12, int.from_bytes(head[at + 8 : at + 12], "little")
    return group << 16 | number, begin + length

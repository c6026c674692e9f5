"""DIMSE command sets, encoded and decoded (PS3.7, section 6.3 and annex E).

A command set is a handful of elements in Implicit VR Little Endian. Encoding one directly takes
microseconds; as a pydicom data set it takes longer than the answer of a fast peer.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

C_STORE_RQ = 0x0001
C_ECHO_RQ = 0x0030
N_EVENT_REPORT_RQ = 0x0100
N_ACTION_RQ = 0x0130
RESPONSE = 0x8000
"""Bit of the command field that every response has."""

_NO_DATA_SET = 0x0101
_DATA_SET = 0x0001
_MAX_NUMBER = 0xFFFF

_UIDS = {
    0x0002: "affected_class",
    0x0003: "requested_class",
    0x1000: "affected_instance",
    0x1001: "requested_instance",
}
_ERROR_COMMENT = 0x0902
_NUMBERS = {
    0x0100: "field",
    0x0110: "message_id",
    0x0120: "responded_to",
    0x0700: "priority",
    0x0900: "status",
    0x1002: "event_type",
    0x1008: "action_type",
}
_DATA_SET_TYPE = 0x0800
_ELEMENTS = sorted([*_UIDS, *_NUMBERS, _DATA_SET_TYPE, _ERROR_COMMENT])

MAX_COMMENT_CHARACTERS = 64
"""Longest Error Comment (VR LO)."""


class MalformedCommand(ValueError):  # noqa: N818 - the name says what the bytes are
    """Bytes that are not a command set."""


@dataclass(frozen=True)
class Command:
    """One command set; absent elements are None or empty.

    Attributes:
        field: Command field; of a response with the ``RESPONSE`` bit.
        has_data_set: Whether a data set follows.
        error_comment: Of a response: reason of a failure, for the peer's log (PS3.7, annex C).
    """

    field: int
    has_data_set: bool = False
    affected_class: str = ""
    requested_class: str = ""
    affected_instance: str = ""
    requested_instance: str = ""
    message_id: int | None = None
    responded_to: int | None = None
    priority: int | None = None
    status: int | None = None
    event_type: int | None = None
    action_type: int | None = None
    error_comment: str = ""

    @property
    def is_response(self) -> bool:
        """Whether it is a response."""
        return bool(self.field & RESPONSE)

    def encode(self) -> bytes:
        """Encode the command set, with its group length."""
        body = b"".join(self._elements())
        return struct.pack("<HHII", 0, 0, 4, len(body)) + body

    def _elements(self) -> list[bytes]:
        parts = []
        for element in _ELEMENTS:
            if element == _DATA_SET_TYPE:
                parts.append(_number(element, _DATA_SET if self.has_data_set else _NO_DATA_SET))
            elif element == _ERROR_COMMENT:
                parts.append(_comment(element, self.error_comment))
            elif element in _UIDS:
                parts.append(_uid(element, getattr(self, _UIDS[element])))
            else:
                parts.append(_number(element, getattr(self, _NUMBERS[element])))
        return parts


def decode(data: bytes) -> Command:
    """Decode a command set.

    Raises:
        MalformedCommand: It is malformed, or lacks the command field.
    """
    found: dict[str, str | int] = {}
    data_set_type = _NO_DATA_SET
    offset = 0
    while offset < len(data):
        element, value, offset = _next(data, offset)
        if element in _UIDS:
            found[_UIDS[element]] = _text(value)
        elif element in _NUMBERS:
            found[_NUMBERS[element]] = _short(value)
        elif element == _DATA_SET_TYPE:
            data_set_type = _short(value)
        elif element == _ERROR_COMMENT:
            found["error_comment"] = value.decode("ascii", "replace").strip("\0 ")
    if "field" not in found:
        raise MalformedCommand("no command field")
    return Command(has_data_set=data_set_type != _NO_DATA_SET, **found)  # type: ignore[arg-type]


def _next(data: bytes, offset: int) -> tuple[int, bytes, int]:
    """Element number, value, and offset of the next element."""
    if len(data) - offset < 8:
        raise MalformedCommand("cut off")
    group, element, length = struct.unpack_from("<HHI", data, offset)
    begin, end = offset + 8, offset + 8 + length
    if group != 0 or end > len(data):
        raise MalformedCommand("not of group 0000, or longer than the message")
    return element, data[begin:end], end


def _text(value: bytes) -> str:
    try:
        return value.rstrip(b"\0 ").decode("ascii")
    except UnicodeDecodeError as error:
        raise MalformedCommand("a UID that is not ASCII") from error


def _short(value: bytes) -> int:
    if len(value) != 2:
        raise MalformedCommand("a number that is not two bytes long")
    return int.from_bytes(value, "little")


def _uid(element: int, value: str) -> bytes:
    if not value:
        return b""
    encoded = value.encode("ascii")
    encoded += b"\0" * (len(encoded) % 2)
    return struct.pack("<HHI", 0, element, len(encoded)) + encoded


def _comment(element: int, value: str) -> bytes:
    if not value:
        return b""
    encoded = value[:MAX_COMMENT_CHARACTERS].replace("\\", "/").encode("ascii", "replace")
    encoded += b" " * (len(encoded) % 2)
    return struct.pack("<HHI", 0, element, len(encoded)) + encoded


def _number(element: int, value: int | None) -> bytes:
    return b"" if value is None else struct.pack("<HHIH", 0, element, 2, value & _MAX_NUMBER)

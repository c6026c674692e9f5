"""A-ASSOCIATE PDUs as an acceptor reads and writes them (PS3.8, 9.3.2 and 9.3.3; PS3.7, annex D).

Anyone who reaches the port can send a request, before any AE title is checked. Its length, its
contexts and the lengths of its nested items are therefore checked in one pass that allocates no
more than needed: the largest request allowed takes milliseconds. AE titles and UIDs are kept as
they were sent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.dimse.acceptor_connection import INVALID_PARAMETER, Violation
from dicom_node.dimse.connection import MAX_SENT_BYTES
from dicom_node.dimse.proposal import MAX_CONTEXT_COUNT, PDU_BYTES
from dicom_node.product import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

MAX_REQUEST_BYTES = 1 << 16
"""Longest A-ASSOCIATE-RQ that is read: 128 contexts with nineteen transfer syntaxes each."""

MAX_ITEM_COUNT = 1024
"""Items in a request, in a context and in the user information."""

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
TITLE_BYTES = 16

_IMPLICIT = b"1.2.840.10008.1.2"
_FIXED_BYTES = 68
_TITLES = slice(4, 4 + 2 * TITLE_BYTES)
_MIN_PDU_BYTES = 64
_APPLICATION, _CONTEXT, _RESULT, _USER = 0x10, 0x20, 0x21, 0x50
_ABSTRACT, _TRANSFER = 0x30, 0x40
_LENGTH, _CLASS, _ROLE, _VERSION = 0x51, 0x52, 0x54, 0x55

Role = tuple[bool, bool]
"""SCU role and SCP role of the requestor, each proposed or not (PS3.7, D.3.3.4)."""


class _Malformed(Exception):  # noqa: N818 - the name says what the bytes are
    """A malformed request; the message continues "sent an association request "."""


@dataclass(frozen=True)
class ProposedContext:
    """A presentation context that a peer proposes; the syntaxes in its order."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True)
class ContextResult:
    """The result of a proposed context (PS3.8, table 9-18).

    Attributes:
        result: 0 for acceptance.
        transfer_syntax: The accepted one; not significant in a rejection.
    """

    id: int
    result: int
    transfer_syntax: str = ""


@dataclass(frozen=True)
class AssociationRequest:
    """The content of an A-ASSOCIATE-RQ.

    Attributes:
        calling: Calling AE title, by `read_title`.
        called: Called AE title, by `read_title`.
        fixed: The fields before the first item, which an acceptance repeats (PS3.8, table 9-17).
        roles: Proposed roles by SOP class, where the peer negotiates them.
        max_pdu_bytes: Longest PDU body that the peer accepts.
    """

    calling: str
    called: str
    protocol_version: int
    fixed: bytes
    application_context: str = ""
    contexts: Sequence[ProposedContext] = ()
    roles: Mapping[str, Role] = field(default_factory=dict)
    max_pdu_bytes: int = MAX_SENT_BYTES

    @property
    def verifies_only(self) -> bool:
        """Whether it proposes Verification only."""
        return all(context.abstract_syntax == Verification for context in self.contexts)


def read_title(field_bytes: bytes) -> str:
    r"""An AE title as printable text; different titles never give the same text.

    Padding (spaces or NULs) is removed. Every byte that no AE title may contain (PS3.5, 6.2)
    becomes ``\xNN``; a backslash is such a byte itself, so the mapping is injective.
    """
    plain = field_bytes.strip(b" \0")
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" for byte in plain
    )


def read_request(body: memoryview) -> AssociationRequest:
    """Read the body of an A-ASSOCIATE-RQ.

    Raises:
        Violation: It is malformed, too long, or breaks a limit of the standard.
    """
    try:
        if len(body) > MAX_REQUEST_BYTES:
            raise _Malformed(f"of more than {MAX_REQUEST_BYTES} bytes")
        if len(body) < _FIXED_BYTES:
            raise _Malformed("that is cut off")
        return _read(bytes(body))
    except _Malformed as error:
        raise Violation(f"sent an association request {error}", INVALID_PARAMETER) from error


def encode_acceptance(
    request: AssociationRequest, results: Sequence[ContextResult], roles: Mapping[str, Role]
) -> bytes:
    """Encode the body of the A-ASSOCIATE-AC that answers a request."""
    answers = b"".join(
        _item(
            _RESULT,
            bytes((item.id, 0, item.result, 0))
            + _item(_TRANSFER, item.transfer_syntax.encode("ascii") or _IMPLICIT),
        )
        for item in results
    )
    granted = b"".join(
        _item(_ROLE, struct.pack(">H", len(uid)) + uid.encode("ascii") + bytes(role))
        for uid, role in roles.items()
    )
    information = _item(
        _USER,
        _item(_LENGTH, struct.pack(">I", PDU_BYTES))
        + _item(_CLASS, IMPLEMENTATION_CLASS_UID.encode("ascii"))
        + granted
        + _item(_VERSION, IMPLEMENTATION_VERSION_NAME.encode("ascii")),
    )
    application = _item(_APPLICATION, APPLICATION_CONTEXT.encode("ascii"))
    return b"\0\1" + request.fixed[2:] + application + answers + information


def _read(body: bytes) -> AssociationRequest:
    application, user = "", None
    contexts: list[ProposedContext] = []
    for kind, value in _items(body, _FIXED_BYTES):
        if kind == _CONTEXT:
            contexts.append(_context(value))
        elif kind == _APPLICATION:
            application = application or _uid(value)
        elif kind == _USER:
            user = user or value
    _check_contexts(contexts)
    roles, largest = _user_information(user or b"")
    titles = body[_TITLES]
    return AssociationRequest(
        calling=read_title(titles[TITLE_BYTES:]),
        called=read_title(titles[:TITLE_BYTES]),
        protocol_version=int.from_bytes(body[:2], "big"),
        fixed=body[:_FIXED_BYTES],
        application_context=application,
        contexts=tuple(contexts),
        roles=roles,
        max_pdu_bytes=min(max(largest, _MIN_PDU_BYTES), MAX_SENT_BYTES),
    )


def _check_contexts(contexts: Sequence[ProposedContext]) -> None:
    """Check the contexts by PS3.8, 9.3.2.2: at least one, with distinct odd identifiers."""
    numbers = {context.id for context in contexts}
    if not contexts:
        raise _Malformed("without a presentation context")
    if any(not number % 2 for number in numbers):
        raise _Malformed("with an even context identifier")
    if len(numbers) < len(contexts) or len(contexts) > MAX_CONTEXT_COUNT:
        raise _Malformed("that uses a context identifier twice")


def _context(value: bytes) -> ProposedContext:
    if len(value) < 4:
        raise _Malformed("with a presentation context that is cut off")
    abstract, transfer = [], []
    for kind, inside in _items(value, 4):
        if kind == _ABSTRACT:
            abstract.append(_uid(inside))
        elif kind == _TRANSFER:
            transfer.append(_uid(inside))
    if len(abstract) != 1 or not transfer:
        raise _Malformed("with a presentation context that lacks a syntax")
    return ProposedContext(value[0], abstract[0], tuple(transfer))


def _user_information(value: bytes) -> tuple[dict[str, Role], int]:
    """The proposed roles, and the longest PDU that the peer accepts (bytes)."""
    roles: dict[str, Role] = {}
    largest = 0
    for kind, inside in _items(value, 0):
        if kind == _LENGTH:
            if len(inside) != 4:
                raise _Malformed("with a malformed maximum length")
            largest = int.from_bytes(inside, "big")
        elif kind == _ROLE:
            size = int.from_bytes(inside[:2], "big")
            if len(inside) != size + 4:
                raise _Malformed("with a malformed role")
            roles[_uid(inside[2 : 2 + size])] = bool(inside[-2]), bool(inside[-1])
    return roles, largest or MAX_SENT_BYTES


def _items(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Kind and value of each item; the caller skips unknown kinds."""
    for _ in range(MAX_ITEM_COUNT):
        if at == len(data):
            return
        if at + 4 > len(data):
            raise _Malformed("that is cut off")
        end = at + 4 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data):
            raise _Malformed("with an item that is longer than the one around it")
        yield data[at], data[at + 4 : end]
        at = end
    raise _Malformed("with too many items")


def _uid(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("ascii", "backslashreplace")


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value

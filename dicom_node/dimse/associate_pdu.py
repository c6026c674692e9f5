"""A-ASSOCIATE PDUs as an acceptor reads and writes them (PS3.8, 9.3.2 and 9.3.3; PS3.7, annex D).

Anybody who reaches the port can send a request, before any title is looked at. So its length, its
contexts and the lengths of its nested items are checked in one pass that builds no more than is
needed: the largest request allowed costs milliseconds. Titles and UIDs are kept as they were sent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.dimse.acceptor_connection import INVALID_PARAMETER, Violation
from dicom_node.dimse.connection import LARGEST_SENT_BYTES
from dicom_node.dimse.proposal import LARGEST_CONTEXT_COUNT, PDU_BYTES
from dicom_node.product import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

MAX_REQUEST_BYTES = 1 << 16
"""Longest A-ASSOCIATE-RQ that is read: 128 contexts with nineteen transfer syntaxes each."""

MAX_ITEM_COUNT = 1024
"""In a request, in a context and in the user information."""

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
TITLE_BYTES = 16

_IMPLICIT = b"1.2.840.10008.1.2"
_FIXED_BYTES = 68
_TITLES = slice(4, 4 + 2 * TITLE_BYTES)
_SMALLEST_PDU_BYTES = 64
_APPLICATION, _CONTEXT, _RESULT, _USER = 0x10, 0x20, 0x21, 0x50
_ABSTRACT, _TRANSFER = 0x30, 0x40
_LENGTH, _CLASS, _ROLE, _VERSION = 0x51, 0x52, 0x54, 0x55

Role = tuple[bool, bool]
"""Whether the requestor proposes to be user (SCU) and provider (SCP)."""


class _Damaged(Exception):  # noqa: N818 - the name says what the bytes are
    """Not as the standard says; its message goes on with "sent an association request "."""


@dataclass(frozen=True)
class ProposedContext:
    """A presentation context that a peer asks for; the syntaxes in its order."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True)
class ContextResult:
    """The answer to one of them (PS3.8, table 9-18).

    Attributes:
        result: 0 for accepted.
        transfer_syntax: The one that was chosen; of no meaning in a rejection.
    """

    id: int
    result: int
    transfer_syntax: str = ""


@dataclass(frozen=True)
class AssociationRequest:
    """What a peer asks for.

    Attributes:
        calling: Its title, see `read_title`.
        fixed: The fields before the first item, which an acceptance repeats (PS3.8, table 9-17).
        roles: By SOP class, where it negotiates them.
        largest_pdu: Longest PDU body that it takes, bytes.
    """

    calling: str
    called: str
    protocol_version: int
    fixed: bytes
    application_context: str = ""
    contexts: Sequence[ProposedContext] = ()
    roles: Mapping[str, Role] = field(default_factory=dict)
    largest_pdu: int = LARGEST_SENT_BYTES

    @property
    def verifies_only(self) -> bool:
        """Whether nothing but an echo can come of it."""
        return all(context.abstract_syntax == Verification for context in self.contexts)


def read_title(field_bytes: bytes) -> str:
    r"""An AE title in letters that name it, and no other title, unmistakably.

    Padding, spaces or NULs, does not count. Every byte that no title may have (PS3.5, 6.2) becomes
    ``\xNN``; since a backslash is such a byte itself, two titles never become one.
    """
    plain = field_bytes.strip(b" \0")
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\x{byte:02x}" for byte in plain
    )


def read_request(body: memoryview) -> AssociationRequest:
    """What follows the header of an A-ASSOCIATE-RQ.

    Raises:
        Violation: It is damaged, too long, or breaks a limit of the standard.
    """
    try:
        if len(body) > MAX_REQUEST_BYTES:
            raise _Damaged(f"of more than {MAX_REQUEST_BYTES} bytes")
        if len(body) < _FIXED_BYTES:
            raise _Damaged("that is cut off")
        return _read(bytes(body))
    except _Damaged as error:
        raise Violation(f"sent an association request {error}", INVALID_PARAMETER) from error


def encode_acceptance(
    request: AssociationRequest, results: Sequence[ContextResult], roles: Mapping[str, Role]
) -> bytes:
    """The body of the A-ASSOCIATE-AC that answers a request."""
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
        largest_pdu=min(max(largest, _SMALLEST_PDU_BYTES), LARGEST_SENT_BYTES),
    )


def _check_contexts(contexts: Sequence[ProposedContext]) -> None:
    """PS3.8, 9.3.2.2: one context or more, with odd identifiers of which none comes twice."""
    numbers = {context.id for context in contexts}
    if not contexts:
        raise _Damaged("without a presentation context")
    if any(not number % 2 for number in numbers):
        raise _Damaged("with an even context identifier")
    if len(numbers) < len(contexts) or len(contexts) > LARGEST_CONTEXT_COUNT:
        raise _Damaged("that uses a context identifier twice")


def _context(value: bytes) -> ProposedContext:
    if len(value) < 4:
        raise _Damaged("with a presentation context that is cut off")
    abstract, transfer = [], []
    for kind, inside in _items(value, 4):
        if kind == _ABSTRACT:
            abstract.append(_uid(inside))
        elif kind == _TRANSFER:
            transfer.append(_uid(inside))
    if len(abstract) != 1 or not transfer:
        raise _Damaged("with a presentation context that lacks a syntax")
    return ProposedContext(value[0], abstract[0], tuple(transfer))


def _user_information(value: bytes) -> tuple[dict[str, Role], int]:
    """The roles that are proposed, and the longest PDU that the peer takes."""
    roles: dict[str, Role] = {}
    largest = 0
    for kind, inside in _items(value, 0):
        if kind == _LENGTH:
            if len(inside) != 4:
                raise _Damaged("with a maximum length that is none")
            largest = int.from_bytes(inside, "big")
        elif kind == _ROLE:
            size = int.from_bytes(inside[:2], "big")
            if len(inside) != size + 4:
                raise _Damaged("with a role that is none")
            roles[_uid(inside[2 : 2 + size])] = bool(inside[-2]), bool(inside[-1])
    return roles, largest or LARGEST_SENT_BYTES


def _items(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Kind and value of each item; kinds that nobody knows are for the caller to pass over."""
    for _ in range(MAX_ITEM_COUNT):
        if at == len(data):
            return
        if at + 4 > len(data):
            raise _Damaged("that is cut off")
        end = at + 4 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data):
            raise _Damaged("with an item that is longer than what it is in")
        yield data[at], data[at + 4 : end]
        at = end
    raise _Damaged("with too many items")


def _uid(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("ascii", "backslashreplace")


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value

"""Association negotiation as acceptor: accept or reject a request (PS3.8, 9.3; PS3.7, annex D)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pydicom.uid import UID, ExplicitVRBigEndian
from pynetdicom.presentation import PresentationContext

from dicom_node.dimse.associate_pdu import (
    APPLICATION_CONTEXT,
    AssociationRequest,
    ContextResult,
    ProposedContext,
    Role,
    encode_acceptance,
)
from dicom_node.dimse.proposal import AcceptedContext
from dicom_node.encoding.uid import is_usable_uid

_PROTOCOL_VERSION_1 = 0x0001

ACCEPTED, REJECTED_BY_USER, NO_ABSTRACT_SYNTAX, NO_TRANSFER_SYNTAX = 0, 1, 3, 4
"""Results of a presentation context (PS3.8, table 9-18)."""

MAX_LOGGED_COUNT = 8
"""Refused contexts, and transfer syntaxes of each, that the log names."""


@dataclass(frozen=True)
class Rejection:
    """An A-ASSOCIATE-RJ: result, source and reason of PS3.8, table 9-21.

    Attributes:
        words: The reason for the log.
        kind: The reason as the metrics count it.
    """

    result: int
    source: int
    reason: int
    words: str
    kind: str

    def encode(self) -> bytes:
        """Encode the body of the A-ASSOCIATE-RJ."""
        return bytes((0, self.result, self.source, self.reason))


PERMANENT = 1
"""Result "rejected-permanent"; 2 is "rejected-transient"."""

WRONG_VERSION = Rejection(PERMANENT, 2, 2, "protocol version not supported", "protocol")
WRONG_APPLICATION = Rejection(PERMANENT, 1, 2, "application context name not supported", "protocol")
WRONG_CALLING = Rejection(PERMANENT, 1, 3, "calling AE title not recognised", "title")
WRONG_CALLED = Rejection(PERMANENT, 1, 7, "called AE title not recognised", "title")
NO_ROOM = Rejection(2, 3, 1, "the disk is at its reserve", "disk")
TOO_MANY = Rejection(2, 3, 2, "the limit of associations is reached", "full")
TOO_MANY_OF_PEER = Rejection(2, 3, 2, "the peer's limit is reached", "peer")
TOO_MANY_OF_ADDRESS = Rejection(2, 3, 2, "the limit of its address is reached", "address")


@dataclass(frozen=True)
class Acceptance:
    """The outcome of an accepted association.

    Attributes:
        answer: Body of the A-ASSOCIATE-AC.
        contexts: Accepted contexts, by identifier.
        refused: Proposed contexts that were not accepted.
    """

    answer: bytes
    contexts: Mapping[int, AcceptedContext]
    refused: Sequence[ProposedContext]


def find_rejection(
    request: AssociationRequest, called: str | None, calling: Collection[str]
) -> Rejection | None:
    """Find a reason to reject a request that does not depend on load (PS3.8, table 9-21).

    Args:
        request: The peer's request.
        called: AE title by which it must call; None: any.
        calling: AE titles that may call; empty: any.

    Returns:
        None for a request that may be accepted; disk space and limits are checked later.
    """
    if not request.protocol_version & _PROTOCOL_VERSION_1:
        return WRONG_VERSION
    if request.application_context != APPLICATION_CONTEXT:
        return WRONG_APPLICATION
    if called is not None and request.called != called:
        return WRONG_CALLED
    if calling and request.calling not in calling:
        return WRONG_CALLING
    return None


def accept(request: AssociationRequest, supported: Sequence[PresentationContext]) -> Acceptance:
    """Agree on presentation contexts and roles."""
    known = {str(context.abstract_syntax): context for context in supported}
    roles = {uid: _role(asked, known[uid]) for uid, asked in request.roles.items() if uid in known}
    granted = {uid: role for uid, role in roles.items() if role is not None}
    results = [
        _result(asked, known.get(asked.abstract_syntax), granted) for asked in request.contexts
    ]
    pairs = list(zip(request.contexts, results, strict=True))
    return Acceptance(
        answer=encode_acceptance(request, results, granted),
        contexts={
            asked.id: AcceptedContext(asked.id, asked.abstract_syntax, result.transfer_syntax)
            for asked, result in pairs
            if result.result == ACCEPTED
        },
        refused=[asked for asked, result in pairs if result.result != ACCEPTED],
    )


def describe_contexts(contexts: Sequence[ProposedContext]) -> str:
    """Describe proposed contexts for the log: SOP class and transfer syntaxes of each."""
    named = [_words(item) for item in contexts[:MAX_LOGGED_COUNT]]
    left = len(contexts) - len(named)
    return "; ".join([*named, f"and {left} more"] if left else named)


def _words(asked: ProposedContext) -> str:
    syntaxes = ", ".join(_name(syntax) for syntax in asked.transfer_syntaxes[:MAX_LOGGED_COUNT])
    return f"{_name(asked.abstract_syntax)} ({syntaxes})"


def _name(uid: str) -> str:
    """The name of a UID; malformed text is not repeated in the log."""
    return UID(uid).name if is_usable_uid(uid) else "malformed UID"


def _result(
    asked: ProposedContext, served: PresentationContext | None, granted: Mapping[str, Role]
) -> ContextResult:
    if served is None:
        return ContextResult(asked.id, NO_ABSTRACT_SYNTAX)
    if granted.get(asked.abstract_syntax) == (False, False):
        return ContextResult(asked.id, REJECTED_BY_USER)
    syntax = _preferred(asked, [str(item) for item in served.transfer_syntax or ()])
    if syntax is None:
        return ContextResult(asked.id, NO_TRANSFER_SYNTAX)
    return ContextResult(asked.id, ACCEPTED, syntax)


def _preferred(asked: ProposedContext, served: Sequence[str]) -> str | None:
    """The first supported transfer syntax in the peer's order: the one of its stored images.

    A peer that proposes a compressed syntax first may not be able to decompress. Big endian, which
    the standard has retired, is accepted only if nothing else is possible.
    """
    usable = [syntax for syntax in asked.transfer_syntaxes if syntax in served]
    others = [syntax for syntax in usable if syntax != ExplicitVRBigEndian]
    return next(iter(others or usable), None)


def _role(asked: Role, served: PresentationContext) -> Role | None:
    """The granted roles, of those proposed; None when roles are not negotiated."""
    if served.scu_role is None or served.scp_role is None:
        return None
    return asked[0] and served.scu_role, asked[1] and served.scp_role

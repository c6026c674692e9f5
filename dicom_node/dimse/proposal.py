"""Association negotiation as requestor: the proposal, and the peer's answer to it."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import build_role
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.dimse.connection import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    MAX_SENT_BYTES,
    aborted,
)
from dicom_node.dimse.peer import Peer, describe
from dicom_node.errors import PeerError
from dicom_node.product import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.tls import handshake_failure

PDU_BYTES = 131072
"""Longest PDU body that this node accepts: 128 KiB, as Orthanc offers at most."""

MAX_CONTEXT_COUNT = 128
"""Presentation contexts of one association (PS3.8, 9.3.2.2: odd identifiers 1 to 255)."""

_APPLICATION_CONTEXT = UID("1.2.840.10008.3.1.1.1")
_ACCEPTED = 0x00
_TRANSIENT_REJECTION = 0x02
_MIN_PDU_BYTES = 64
_HEADER_BYTES = 6


@dataclass(frozen=True)
class AcceptedContext:
    """An accepted presentation context."""

    id: int
    sop_class: str
    transfer_syntax: str


@dataclass(frozen=True)
class Agreement:
    """The outcome of an accepted association.

    Attributes:
        contexts: Accepted contexts, by identifier.
        max_pdu_bytes: Longest PDU body that the peer accepts.
        refused: For the log, each SOP class and transfer syntax not accepted, with the reason.
    """

    contexts: Mapping[int, AcceptedContext]
    max_pdu_bytes: int
    refused: tuple[str, ...] = ()

    @property
    def accepted(self) -> tuple[str, ...]:
        """For the log, each SOP class and transfer syntax that was accepted."""
        return tuple(
            _kind(context.sop_class, context.transfer_syntax) for context in self.contexts.values()
        )


def storage_contexts(kinds: Iterable[tuple[str, str]]) -> list[PresentationContext]:
    """Build the contexts to propose for files of these (SOP class, transfer syntax) pairs.

    Each context has one transfer syntax, so that the peer answers for each separately; an
    uncompressed file may also be sent as Implicit VR Little Endian, which every peer must accept
    (PS3.5, 10.1).

    Raises:
        PeerError: More combinations than one association can carry.
    """
    wanted: dict[tuple[str, str], None] = {}
    for sop_class, syntax in kinds:
        wanted[sop_class, syntax] = None
        if syntax in (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
            wanted[sop_class, ImplicitVRLittleEndian] = None
    if len(wanted) > MAX_CONTEXT_COUNT:
        raise PeerError(
            f"The files are of {len(wanted)} combinations of SOP class and transfer syntax, but one"
            f" association carries {MAX_CONTEXT_COUNT}: send fewer at a time.",
            transient=False,
        )
    return [build_context(sop_class, syntax) for sop_class, syntax in wanted]


def request_pdu(
    peer: Peer,
    contexts: Sequence[PresentationContext],
    *,
    calling_ae: str,
    provided: Sequence[str] = (),
) -> bytes:
    """Encode the body of the A-ASSOCIATE-RQ that proposes contexts.

    Args:
        peer: The called system.
        contexts: Contexts to propose; they get the identifiers 1, 3, 5 ...
        calling_ae: This node's AE title.
        provided: SOP classes of which this node is the provider (SCP/SCU role selection, PS3.7,
            D.3.3.4).
    """
    request = A_ASSOCIATE()
    request.application_context_name = _APPLICATION_CONTEXT
    request.calling_ae_title, request.called_ae_title = calling_ae, peer.ae_title
    for index, context in enumerate(contexts):
        context.context_id = 2 * index + 1
    request.presentation_context_definition_list = list(contexts)
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = PDU_BYTES
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    roles = [build_role(sop_class, scp_role=True) for sop_class in provided]
    request.user_information = [length, implementation, version, *roles]
    return bytes(A_ASSOCIATE_RQ(request).encode()[_HEADER_BYTES:])


def read_answer(
    kind: int, body: bytes, proposed: Sequence[PresentationContext], peer: Peer
) -> Agreement:
    """Read the peer's answer to an A-ASSOCIATE-RQ.

    Args:
        kind: PDU type of the answer.
        body: Body of the PDU.
        proposed: Proposed contexts.
        peer: The peer, for error messages.

    Raises:
        PeerError: The peer rejected the association or sent no valid answer. Transient unless it
            rejects permanently.
    """
    whole = bytes([kind, 0]) + len(body).to_bytes(4, "big") + body
    try:
        if kind == ASSOCIATE_RJ:
            raise _rejected(whole, peer)
        if kind == ABORT:
            raise PeerError(f"{describe(peer)} {aborted(body)} during negotiation.", transient=True)
        if kind != ASSOCIATE_AC:
            raise _broke_off(peer)
        return _accepted(whole, {int(c.context_id or 0): c for c in proposed})
    except PeerError:
        raise
    except Exception as error:  # the decoder fails in as many ways as bytes can be wrong
        raise PeerError(
            f"{describe(peer)} sent no valid answer: no DICOM system listens there;"
            " check host and port.",
            transient=True,
            counted=True,
        ) from error


def none_accepted(peer: Peer, agreement: Agreement) -> PeerError:
    """The error that no proposed context was accepted."""
    refused = "; ".join(agreement.refused)
    return PeerError(f"{describe(peer)} accepts none of: {refused}.", transient=False)


def unreachable(peer: Peer, error: OSError) -> PeerError:
    """The error that no connection could be made."""
    who = describe(peer)
    if isinstance(error, ssl.SSLError):
        return PeerError(
            f"No TLS connection to {who}: {handshake_failure(error)}; check `tls` on both sides.",
            transient=True,
        )
    return PeerError(
        f"No connection to {who}: the host is down or nothing listens there;"
        " check host, port and firewall.",
        transient=True,
    )


def _rejected(whole: bytes, peer: Peer) -> PeerError:
    answer = A_ASSOCIATE_RJ()
    answer.decode(whole)
    return PeerError(
        f"{describe(peer)} rejected the association: {answer.reason_str}"
        f" ({answer.result_str.lower()}); check both AE titles and whether it knows this node.",
        transient=answer.result == _TRANSIENT_REJECTION,
    )


def _broke_off(peer: Peer) -> PeerError:
    return PeerError(f"{describe(peer)} broke off the negotiation.", transient=True)


def _accepted(whole: bytes, proposed: Mapping[int, PresentationContext]) -> Agreement:
    pdu = A_ASSOCIATE_AC()
    pdu.decode(whole)
    answer = pdu.to_primitive()
    contexts = {}
    results: dict[int, int | None] = {}
    for result in answer.presentation_context_definition_results_list:
        number = int(result.context_id or 0)
        asked = proposed.get(number)
        results[number] = result.result
        if asked is None or result.result != _ACCEPTED:
            continue
        (syntax,) = result.transfer_syntax
        if syntax in asked.transfer_syntax:
            contexts[number] = AcceptedContext(number, str(asked.abstract_syntax), str(syntax))
    largest = int(answer.maximum_length_received or MAX_SENT_BYTES)
    return Agreement(
        contexts,
        min(max(largest, _MIN_PDU_BYTES), MAX_SENT_BYTES),
        tuple(
            f"{_kinds(asked)} ({_reason(results.get(number))})"
            for number, asked in proposed.items()
            if number not in contexts
        ),
    )


_REFUSALS = {
    0: "accepted in another transfer syntax",
    1: "refused by its user",
    2: "refused without a reason",
    3: "SOP class not supported",
    4: "transfer syntax not supported",
}
"""PS3.8, table 9-18."""


def _reason(result: int | None) -> str:
    return "not answered" if result is None else _REFUSALS.get(result, "refused")


def _kinds(context: PresentationContext) -> str:
    syntaxes = ", ".join(UID(syntax).name for syntax in context.transfer_syntax)
    return f"{UID(context.abstract_syntax or '').name} in {syntaxes}"


def _kind(sop_class: str, transfer_syntax: str) -> str:
    return f"{UID(sop_class).name} in {UID(transfer_syntax).name}"

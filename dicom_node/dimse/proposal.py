"""What is proposed when an association is asked for, and what the peer made of it."""

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
    LARGEST_SENT_BYTES,
    aborted,
)
from dicom_node.dimse.peer import Peer, describe
from dicom_node.errors import PeerError
from dicom_node.product import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.tls import handshake_failure

PDU_BYTES = 131072
"""Largest fragment this node takes: 128 KiB, the most that Orthanc offers too."""

LARGEST_CONTEXT_COUNT = 128
"""An association carries at most 128 presentation contexts (PS3.8, 9.3.2.2: odd numbers 1..255)."""

_APPLICATION_CONTEXT = UID("1.2.840.10008.3.1.1.1")
_ACCEPTED = 0x00
_TRANSIENT_REJECTION = 0x02
_SMALLEST_PDU_BYTES = 64
_HEADER_BYTES = 6


@dataclass(frozen=True)
class AcceptedContext:
    """A presentation context both sides agreed on."""

    id: int
    sop_class: str
    transfer_syntax: str


@dataclass(frozen=True)
class Agreement:
    """What an accepted association may be used for.

    Attributes:
        contexts: By context identifier.
        largest_pdu: Longest PDU body the peer takes, bytes.
        refused: In words, each SOP class and transfer syntax that was not accepted, and why.
    """

    contexts: Mapping[int, AcceptedContext]
    largest_pdu: int
    refused: tuple[str, ...] = ()

    @property
    def accepted(self) -> tuple[str, ...]:
        """In words, each SOP class and transfer syntax that was accepted."""
        return tuple(
            _kind(context.sop_class, context.transfer_syntax) for context in self.contexts.values()
        )


def storage_contexts(kinds: Iterable[tuple[str, str]]) -> list[PresentationContext]:
    """The contexts to propose for files of these (SOP class, transfer syntax) pairs.

    One transfer syntax a context, so that the peer's answer says of each whether it is accepted;
    an uncompressed file may also go as Implicit VR Little Endian, which every peer must accept
    (PS3.5, 10.1).

    Raises:
        PeerError: More combinations than one association can carry.
    """
    wanted: dict[tuple[str, str], None] = {}
    for sop_class, syntax in kinds:
        wanted[sop_class, syntax] = None
        if syntax in (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
            wanted[sop_class, ImplicitVRLittleEndian] = None
    if len(wanted) > LARGEST_CONTEXT_COUNT:
        raise PeerError(
            f"The files are of {len(wanted)} combinations of SOP class and transfer syntax, but one"
            f" association carries {LARGEST_CONTEXT_COUNT}: send them in several goes.",
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
    """The body of the A-ASSOCIATE-RQ that proposes contexts.

    Args:
        peer: The called AE title is its.
        contexts: Get the identifiers 1, 3, 5 ...
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
    """What the peer agreed to.

    Args:
        kind: PDU type of its answer.
        body: What followed the PDU header.
        proposed: The contexts it was asked for.
        peer: Named in the error.

    Raises:
        PeerError: It rejected the association or answers nonsense. Transient unless it says that
            its refusal is permanent.
    """
    whole = bytes([kind, 0]) + len(body).to_bytes(4, "big") + body
    try:
        if kind == ASSOCIATE_RJ:
            raise _rejected(whole, peer)
        if kind == ABORT:
            raise PeerError(
                f"{describe(peer)} {aborted(body)} while it was negotiated.", transient=True
            )
        if kind != ASSOCIATE_AC:
            raise _broke_off(peer)
        return _accepted(whole, {int(c.context_id or 0): c for c in proposed})
    except PeerError:
        raise
    except Exception as error:  # the decoder fails in as many ways as bytes can be wrong
        raise PeerError(
            f"{describe(peer)} answered with nonsense: no DICOM system listens there;"
            " check host and port.",
            transient=True,
            counted=True,
        ) from error


def none_accepted(peer: Peer, agreement: Agreement) -> PeerError:
    """The peer is there but takes nothing of what was proposed."""
    refused = "; ".join(agreement.refused)
    return PeerError(f"{describe(peer)} accepts none of: {refused}.", transient=False)


def unreachable(peer: Peer, error: OSError) -> PeerError:
    """Why no connection came about."""
    who = describe(peer)
    if isinstance(error, ssl.SSLError):
        return PeerError(
            f"No TLS connection to {who}: {handshake_failure(error)}; check `tls` on both sides.",
            transient=True,
        )
    return PeerError(
        f"No connection to {who}: the host is away or nothing listens there;"
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
    return PeerError(
        f"{describe(peer)} broke off while the association was negotiated.", transient=True
    )


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
    largest = int(answer.maximum_length_received or LARGEST_SENT_BYTES)
    return Agreement(
        contexts,
        min(max(largest, _SMALLEST_PDU_BYTES), LARGEST_SENT_BYTES),
        tuple(
            f"{_kinds(asked)} ({_why(results.get(number))})"
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


def _why(result: int | None) -> str:
    return "not answered" if result is None else _REFUSALS.get(result, "refused")


def _kinds(context: PresentationContext) -> str:
    syntaxes = ", ".join(UID(syntax).name for syntax in context.transfer_syntax)
    return f"{UID(context.abstract_syntax or '').name} in {syntaxes}"


def _kind(sop_class: str, transfer_syntax: str) -> str:
    return f"{UID(sop_class).name} in {UID(transfer_syntax).name}"

"""How this node answers whoever asks for an association (PS3.8, 9.3; PS3.7, annex D)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pynetdicom
from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import PresentationContext, negotiate_as_acceptor
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.ct.product import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.net.connection import ASSOCIATE_RQ, LARGEST_SENT_BYTES
from dicom_node.net.inlet import HEADER_BYTES, INVALID_PARAMETER, Violation
from dicom_node.net.proposal import PDU_BYTES, AcceptedContext
from dicom_node.settings import Settings

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_PROTOCOL_VERSION_1 = 0x0001
_ACCEPTED = 0x00
_SMALLEST_PDU_BYTES = 64

# Titles outside ASCII are wrong (PS3.5, table 6.2-1) but in use; they must not end an association.
pynetdicom._config.CODECS = ("ascii", "utf-8", "latin-1")


@dataclass(frozen=True)
class Refusal:
    """Why an association is rejected: result, source and reason of PS3.8, table 9-21, in words."""

    result: int
    source: int
    reason: int
    words: str

    def encode(self) -> bytes:
        """The body of the A-ASSOCIATE-RJ."""
        return bytes((0, self.result, self.source, self.reason))


PERMANENT = 1
"""The result of a refusal that will be the same next time; 2 is one that may pass."""

WRONG_VERSION = Refusal(PERMANENT, 2, 2, "protocol version not supported")
WRONG_APPLICATION = Refusal(PERMANENT, 1, 2, "application context name not supported")
WRONG_CALLING = Refusal(PERMANENT, 1, 3, "calling AE title not recognised")
WRONG_CALLED = Refusal(PERMANENT, 1, 7, "called AE title not recognised")
NO_ROOM = Refusal(2, 3, 1, "the disk is at its reserve")
TOO_MANY = Refusal(2, 3, 2, "the limit of associations is reached")
TOO_MANY_OF_PEER = Refusal(2, 3, 2, "the peer's limit is reached")


@dataclass(frozen=True)
class AssociationRequest:
    """What a peer asks for.

    Attributes:
        largest_pdu: Longest PDU body that it takes, bytes.
    """

    calling: str
    called: str
    protocol_version: int
    primitive: A_ASSOCIATE
    largest_pdu: int

    @property
    def verifies_only(self) -> bool:
        """Whether nothing but an echo can come of it."""
        proposed = self.primitive.presentation_context_definition_list
        return all(context.abstract_syntax == Verification for context in proposed)


def read_request(body: memoryview) -> AssociationRequest:
    """What follows the header of an A-ASSOCIATE-RQ.

    Raises:
        Violation: It is damaged.
    """
    pdu = A_ASSOCIATE_RQ()
    try:
        pdu.decode(bytes((ASSOCIATE_RQ, 0)) + len(body).to_bytes(4, "big") + bytes(body))
        primitive = pdu.to_primitive()
        largest = int(primitive.maximum_length_received or LARGEST_SENT_BYTES)
        return AssociationRequest(
            calling=str(primitive.calling_ae_title).strip(),
            called=str(primitive.called_ae_title).strip(),
            protocol_version=int(pdu.protocol_version),
            primitive=primitive,
            largest_pdu=min(max(largest, _SMALLEST_PDU_BYTES), LARGEST_SENT_BYTES),
        )
    except Exception as error:  # the decoder fails in as many ways as bytes can be wrong
        raise Violation("sent a damaged association request", INVALID_PARAMETER) from error


def why_refused(request: AssociationRequest, settings: Settings) -> Refusal | None:
    """Why a peer may not associate at all, if so; room and limits are looked at later."""
    if not request.protocol_version & _PROTOCOL_VERSION_1:
        return WRONG_VERSION
    if request.primitive.application_context_name != _APPLICATION_CONTEXT:
        return WRONG_APPLICATION
    if settings.accept.require_called_ae and request.called != settings.ae_title:
        return WRONG_CALLED
    if settings.accept.calling and request.calling not in settings.accept.calling:
        return WRONG_CALLING
    return None


def accept(
    request: AssociationRequest, supported: Sequence[PresentationContext]
) -> tuple[bytes, Mapping[int, AcceptedContext]]:
    """Agree on presentation contexts and roles.

    Returns:
        The body of the A-ASSOCIATE-AC, and the accepted contexts by identifier.

    Raises:
        Violation: What was asked for cannot be answered.
    """
    asked = request.primitive
    roles = {
        item.sop_class_uid: (item.scu_role, item.scp_role)
        for item in asked.user_information
        if isinstance(item, SCP_SCU_RoleSelectionNegotiation) and item.sop_class_uid
    }
    try:
        results, granted = negotiate_as_acceptor(
            asked.presentation_context_definition_list, list(supported), roles
        )
        answer = _answer(asked, results, granted)
        contexts = {
            int(item.context_id or 0): AcceptedContext(
                int(item.context_id or 0), str(item.abstract_syntax), str(item.transfer_syntax[0])
            )
            for item in results
            if item.result == _ACCEPTED
        }
        return bytes(A_ASSOCIATE_AC(answer).encode()[HEADER_BYTES:]), contexts
    except Exception as error:  # names and UIDs that pass the decoder and not the encoder
        raise Violation("asked for something that has no answer", INVALID_PARAMETER) from error


def _answer(
    asked: A_ASSOCIATE,
    results: list[PresentationContext],
    granted: list[SCP_SCU_RoleSelectionNegotiation],
) -> A_ASSOCIATE:
    answer = A_ASSOCIATE()
    answer.application_context_name = UID(_APPLICATION_CONTEXT)
    answer.calling_ae_title, answer.called_ae_title = asked.calling_ae_title, asked.called_ae_title
    answer.result, answer.result_source = 0x00, 0x01
    answer.presentation_context_definition_results_list = results
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = PDU_BYTES
    implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    answer.user_information = [length, implementation, version, *granted]
    return answer

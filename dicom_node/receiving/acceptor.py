"""Acceptor of one association: negotiation, requests and answers, release or abort.

The acceptor's half of the upper layer protocol (PS3.8, 9.2) on one thread that blocks on the
socket. pynetdicom's acceptor passes every fragment through two polling threads and five copies,
which takes ten times as long as the bytes themselves (decision 0007).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pynetdicom.presentation import PresentationContext

from dicom_node import telemetry
from dicom_node.audit import Audit, Peer, Transfer
from dicom_node.dimse.acceptor_connection import (
    INVALID_PARAMETER,
    SILENCE_SECONDS,
    UNEXPECTED_PDU,
    UNSPECIFIED,
    AcceptorConnection,
    Violation,
)
from dicom_node.dimse.associate_pdu import MAX_REQUEST_BYTES, AssociationRequest, read_request
from dicom_node.dimse.connection import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    ASSOCIATE_RQ,
    DATA,
    RELEASE_RP,
    RELEASE_RQ,
    ConnectionLost,
)
from dicom_node.dimse.message import NOTHING, MalformedFragment, fragments
from dicom_node.dimse.negotiation import (
    PERMANENT,
    TOO_MANY,
    Rejection,
    accept,
    describe_contexts,
    find_rejection,
)
from dicom_node.dimse.services import Caller, Service
from dicom_node.logs import get_logger, reason_of
from dicom_node.receiving.incidents import Incident, IncidentLog
from dicom_node.receiving.reception import Reception
from dicom_node.receiving.requests import Requests
from dicom_node.receiving.slots import Slot
from dicom_node.settings import Settings

log = get_logger(__name__)


@dataclass(frozen=True)
class Offer:
    """Settings and services that all associations of a receiver share.

    Attributes:
        reception: Storage for images.
        contexts: Supported presentation contexts.
        services: Services by SOP class, besides Storage and Verification.
        audit: Audit trail for received images.
        incidents: Log of rejected and broken associations.
    """

    settings: Settings
    reception: Reception
    contexts: Sequence[PresentationContext]
    services: Mapping[str, Service]
    audit: Audit
    incidents: IncidentLog


class _Ended(Exception):  # noqa: N818 - the name says what happened
    """The peer has released or aborted the association."""


class Acceptor:
    """Serves one connection, from the association request to the end of the association.

    Args:
        connection: The connection.
        host: The peer's address.
        offer: Shared settings and services.
    """

    def __init__(self, connection: AcceptorConnection, host: str, offer: Offer) -> None:
        self._connection, self._offer = connection, offer
        self._caller = Caller("", "", host)
        self._slot: Slot | None = None
        self._is_given_up = False
        self._refused = ""
        self._transfer: Transfer | None = None
        self._failure = ""
        self._requests: Requests | None = None

    @property
    def last_image_at(self) -> float:
        """Time of the last answer to an image, by ``time.monotonic``; 0 for none."""
        return self._requests.last_image_at if self._requests is not None else 0.0

    @property
    def has_slot(self) -> bool:
        """Whether the peer holds an association slot, not only a connection."""
        return self._slot is not None

    def run(self) -> None:
        """Serve until the association has ended, however it ends; never raises."""
        try:
            self._negotiate()
            while self._requests is not None:
                self._take_pdu(self._requests)
        except _Ended:
            log.debug("association ended", calling=self._caller.ae_title)
        except Violation as error:
            self._break_off(str(error), error.reason)
        except MalformedFragment as error:
            self._break_off(str(error), INVALID_PARAMETER)
        except ConnectionLost as error:
            self._break_off(str(error), UNSPECIFIED)
        except Exception as error:
            log.error("an association ended by an unexpected error", reason=reason_of(error))
            self._break_off("cannot be served", UNSPECIFIED)
        finally:
            self._end()

    def abort(self) -> None:
        """Abort the association; called from another thread when the node stops."""
        self._connection.abort()
        self._connection.shut()

    def give_way(self) -> None:
        """Abort the association if others wait for its slot; called by the listening thread."""
        slot = self._slot
        if slot is not None and not self._is_given_up and slot.should_leave():
            self._is_given_up = True
            telemetry.association("given_up")
            self.abort()

    def _negotiate(self) -> None:
        kind, length = self._connection.next_header()
        if kind != ASSOCIATE_RQ:
            raise Violation("did not ask for an association first", UNEXPECTED_PDU)
        if length > MAX_REQUEST_BYTES:
            raise Violation("announced a request of an impossible length", INVALID_PARAMETER)
        request = read_request(self._connection.body(length))
        self._caller = Caller(request.calling, request.called, self._caller.host)
        settings = self._offer.settings
        called = settings.ae_title if settings.accept.require_called_ae else None
        rejection = find_rejection(request, called, settings.accept.calling)
        rejection = rejection or self._take_slot(request)
        if rejection is not None:
            self._refuse(rejection)
            return
        agreed = accept(request, self._offer.contexts)
        self._refused = describe_contexts(agreed.refused)
        self._connection.max_pdu_bytes = request.max_pdu_bytes
        self._connection.allow(SILENCE_SECONDS)
        offer, peer = self._offer, Peer(request.calling, self._caller.host)
        self._transfer = offer.audit.incoming(peer)
        assert self._slot is not None
        self._requests = Requests(
            self._connection,
            self._caller,
            agreed.contexts,
            offer.reception,
            offer.services,
            self._transfer,
            self._slot,
        )
        self._connection.send(ASSOCIATE_AC, agreed.answer)
        telemetry.association("accepted")
        log.debug("association accepted", calling=request.calling, host=self._caller.host)

    def _take_slot(self, request: AssociationRequest) -> Rejection | None:
        admission = self._offer.reception.admission
        slot = admission.admit(
            request.calling, self._caller.host, verifies_only=request.verifies_only
        )
        if isinstance(slot, Rejection):
            return slot
        self._slot = slot
        return None

    def _refuse(self, rejection: Rejection) -> None:
        telemetry.association("rejected")
        telemetry.association_refused(rejection.kind)
        if rejection == TOO_MANY:
            self._offer.reception.admission.note_turned_away()
        is_alarming = rejection.result == PERMANENT
        self._report("association refused", rejection.words, is_alarming=is_alarming)
        self._connection.send(ASSOCIATE_RJ, rejection.encode())

    def _report(self, event: str, reason: str, *, is_alarming: bool = False) -> None:
        caller = self._caller
        self._offer.incidents.report(
            Incident(
                event,
                reason,
                Peer(caller.ae_title, caller.host),
                alert=f"{event}: {reason}" if is_alarming else "",
                called=caller.called_ae_title,
                refused=self._refused,
            )
        )

    def _take_pdu(self, requests: Requests) -> None:
        kind, length = self._connection.next_header()
        body = self._connection.body(length)
        if kind == DATA:
            for fragment in fragments(body):
                requests.take(fragment)
        elif kind == RELEASE_RQ:
            self._connection.send(RELEASE_RP, NOTHING)
            if self._refused and not requests.count:
                self._report("association without a request", "what it needs was refused")
            raise _Ended
        elif kind == ABORT:
            self._note_break_off("broke it off")
            raise _Ended
        else:
            raise Violation("sent a PDU that does not belong here", UNEXPECTED_PDU)

    def _break_off(self, reason: str, code: int) -> None:
        self._note_break_off(
            "brought no image while others waited" if self._is_given_up else reason
        )
        self._connection.abort(code)

    def _note_break_off(self, reason: str) -> None:
        self._failure = f"association broken off: the peer {reason}"
        if self._requests is not None and not self._is_given_up:
            telemetry.association("aborted")
        if self._connection.heard:  # a peer that connects and sends nothing is a port check
            self._report("association broken off", f"the peer {reason}")

    def _end(self) -> None:
        if self._requests is not None:
            self._requests.discard()
        if self._transfer is not None:
            self._transfer.end(self._failure)
        if self._slot is not None:
            self._slot.leave()
        self._connection.linger()
        self._connection.close()

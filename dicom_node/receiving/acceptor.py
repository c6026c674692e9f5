"""One association with a peer that called: negotiation, requests and answers, and its end.

The acceptor's half of the upper layer protocol (PS3.8, 9.2) on one thread that blocks on the
socket. pynetdicom's acceptor hands every fragment through two polling threads and five copies,
which costs ten times what the bytes cost (decision 0007).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pynetdicom.presentation import PresentationContext

from dicom_node import telemetry
from dicom_node.audit import Audit, Peer, Transfer
from dicom_node.dimse.associate import MAX_REQUEST_BYTES, AssociationRequest, read_request
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
from dicom_node.dimse.inlet import (
    INVALID_PARAMETER,
    SILENCE_SECONDS,
    UNEXPECTED_PDU,
    UNSPECIFIED,
    Inlet,
    Violation,
)
from dicom_node.dimse.message import NOTHING, MalformedFragment, fragments
from dicom_node.dimse.negotiation import PERMANENT, TOO_MANY, Refusal, accept, describe, refusal_of
from dicom_node.dimse.services import Caller, Service
from dicom_node.logs import get_logger, reason_of
from dicom_node.receiving.knocks import Knock, Knocks
from dicom_node.receiving.places import Place
from dicom_node.receiving.reception import Reception
from dicom_node.receiving.requests import Requests
from dicom_node.settings import Settings

log = get_logger(__name__)


@dataclass(frozen=True)
class Offer:
    """What every association of a receiver is offered.

    Attributes:
        contexts: What negotiation compares a proposal with.
        services: By SOP class, besides Storage and Verification.
        audit: Told of what came in.
        knocks: Told of whoever is refused, and of associations that break.
    """

    settings: Settings
    reception: Reception
    contexts: Sequence[PresentationContext]
    services: Mapping[str, Service]
    audit: Audit
    knocks: Knocks


class _Ended(Exception):  # noqa: N818 - the name says what happened
    """The peer has released the association, or broken it off."""


class Acceptor:
    """Serves one connection from the request for an association to its end.

    Args:
        inlet: The connection.
        host: The peer's address.
        offer: What it may use.

    """

    def __init__(self, inlet: Inlet, host: str, offer: Offer) -> None:
        self._inlet, self._offer = inlet, offer
        self._caller = Caller("", "", host)
        self._place: Place | None = None
        self._is_given_up = False
        self._refused = ""
        self._transfer: Transfer | None = None
        self._failure = ""
        self._requests: Requests | None = None

    @property
    def last_image_at(self) -> float:
        """When it last answered an image, of ``time.monotonic``; 0 for never."""
        return self._requests.last_image_at if self._requests is not None else 0.0

    @property
    def has_place(self) -> bool:
        """Whether the peer has an association, not only a connection."""
        return self._place is not None

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
        """End the association now; from another thread, when the node stops."""
        self._inlet.abort()
        self._inlet.shut()

    def give_way(self) -> None:
        """End the association if others wait for its place; from another thread, now and then."""
        place = self._place
        if place is not None and not self._is_given_up and place.should_leave():
            self._is_given_up = True
            telemetry.association("given_up")
            self.abort()

    def _negotiate(self) -> None:
        kind, length = self._inlet.next_header()
        if kind != ASSOCIATE_RQ:
            raise Violation("did not ask for an association first", UNEXPECTED_PDU)
        if length > MAX_REQUEST_BYTES:
            raise Violation("announced a request of an impossible length", INVALID_PARAMETER)
        request = read_request(self._inlet.body(length))
        self._caller = Caller(request.calling, request.called, self._caller.host)
        settings = self._offer.settings
        called = settings.ae_title if settings.accept.require_called_ae else None
        refusal = refusal_of(request, called, settings.accept.calling) or self._find_place(request)
        if refusal is not None:
            self._refuse(refusal)
            return
        agreed = accept(request, self._offer.contexts)
        self._refused = describe(agreed.refused)
        self._inlet.largest_pdu = request.largest_pdu
        self._inlet.allow(SILENCE_SECONDS)
        offer, peer = self._offer, Peer(request.calling, self._caller.host)
        self._transfer = offer.audit.incoming(peer)
        assert self._place is not None
        self._requests = Requests(
            self._inlet,
            self._caller,
            agreed.contexts,
            offer.reception,
            offer.services,
            self._transfer,
            self._place,
        )
        self._inlet.send(ASSOCIATE_AC, agreed.answer)
        telemetry.association("accepted")
        log.debug("association accepted", calling=request.calling, host=self._caller.host)

    def _find_place(self, request: AssociationRequest) -> Refusal | None:
        admission = self._offer.reception.admission
        place = admission.admit(
            request.calling, self._caller.host, verifies_only=request.verifies_only
        )
        if isinstance(place, Refusal):
            return place
        self._place = place
        return None

    def _refuse(self, refusal: Refusal) -> None:
        telemetry.association("rejected")
        telemetry.association_refused(refusal.kind)
        if refusal == TOO_MANY:
            self._offer.reception.admission.note_turned_away()
        is_alarming = refusal.result == PERMANENT
        self._tell("association refused", refusal.words, is_alarming=is_alarming)
        self._inlet.send(ASSOCIATE_RJ, refusal.encode())

    def _tell(self, event: str, reason: str, *, is_alarming: bool = False) -> None:
        caller = self._caller
        self._offer.knocks.tell(
            Knock(
                event,
                reason,
                Peer(caller.ae_title, caller.host),
                alert=f"{event}: {reason}" if is_alarming else "",
                called=caller.called_ae_title,
                refused=self._refused,
            )
        )

    def _take_pdu(self, requests: Requests) -> None:
        kind, length = self._inlet.next_header()
        body = self._inlet.body(length)
        if kind == DATA:
            for fragment in fragments(body):
                requests.take(fragment)
        elif kind == RELEASE_RQ:
            self._inlet.send(RELEASE_RP, NOTHING)
            if self._refused and not requests.count:
                self._tell("association without a request", "what it needs was refused")
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
        self._inlet.abort(code)

    def _note_break_off(self, reason: str) -> None:
        self._failure = f"association broken off: the peer {reason}"
        if self._requests is not None and not self._is_given_up:
            telemetry.association("aborted")
        if self._inlet.heard:  # whoever connects and says nothing is a port check
            self._tell("association broken off", f"the peer {reason}")

    def _end(self) -> None:
        if self._requests is not None:
            self._requests.discard()
        if self._transfer is not None:
            self._transfer.end(self._failure)
        if self._place is not None:
            self._place.leave()
        self._inlet.linger()
        self._inlet.close()

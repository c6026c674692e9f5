"""Association as requestor: one request at a time, each with its response."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from pynetdicom.presentation import PresentationContext

from dicom_node.deadline import Deadline, sending_seconds
from dicom_node.dimse.command import C_STORE_RQ, RESPONSE, Command
from dicom_node.dimse.connection import (
    ABORT,
    ASSOCIATE_RQ,
    RELEASE_RP,
    RELEASE_RQ,
    Connection,
    ConnectionLost,
)
from dicom_node.dimse.message import NOTHING, Message, MessageReader
from dicom_node.dimse.peer import Peer, describe
from dicom_node.dimse.proposal import (
    PDU_BYTES,
    AcceptedContext,
    Agreement,
    none_accepted,
    read_answer,
    request_pdu,
    unreachable,
)
from dicom_node.dimse.status import UNRECOGNIZED_OPERATION
from dicom_node.errors import PeerError

__all__ = ["ANSWER_SECONDS", "PDU_BYTES", "Association", "OnRequest", "associate"]

ANSWER_SECONDS = 60.0
"""Time for a peer to answer one message; a PACS with a busy archive may need it."""

NEGOTIATION_SECONDS = 30.0
RELEASE_SECONDS = 5.0
ABORT_SECONDS = 1.0
"""Time for a peer to answer an A-ASSOCIATE-RQ, an A-RELEASE-RQ, and to take an A-ABORT."""

_MAX_MESSAGE_ID = 0xFFFF


OnRequest = Callable[[AcceptedContext, Message], int]
"""Handler of a request from the peer; returns the status to answer with (PS3.7, annex C)."""

ShouldStop = Callable[[], bool]
"""Tells that this process is to stop; an exchange under way then ends within seconds."""


def _never() -> bool:
    return False


def _unrecognized(_: AcceptedContext, __: Message) -> int:
    return UNRECOGNIZED_OPERATION


class Association:
    """An established association; :func:`associate` makes one.

    Args:
        connection: Connection to the peer.
        agreement: Accepted contexts and PDU length.
        should_stop: Called while waiting for the peer.

    Attributes:
        agreement: Accepted contexts and PDU length.
        on_request: Called when the peer sends a request of its own.
        ended: Whether it has ended; nothing more can be sent.
    """

    def __init__(
        self, connection: Connection, agreement: Agreement, should_stop: ShouldStop = _never
    ) -> None:
        self._connection, self.agreement, self._should_stop = connection, agreement, should_stop
        self._messages = MessageReader(connection)
        self._message_id = 0
        self.on_request: OnRequest = _unrecognized
        self.ended = False

    def context(self, sop_class: str, transfer_syntax: str = "") -> AcceptedContext | None:
        """Find the accepted context for a SOP class (in this transfer syntax), if any."""
        for context in self.agreement.contexts.values():
            if context.sop_class == sop_class and transfer_syntax in ("", context.transfer_syntax):
                return context
        return None

    def request(
        self, context: AcceptedContext, command: Command, data_set: bytes | memoryview | None = None
    ) -> Command:
        """Send a request and wait for its response; requests of the peer are served meanwhile.

        Raises:
            ConnectionLost: No response arrived; the association has ended.
        """
        self._message_id = self._message_id % _MAX_MESSAGE_ID + 1
        asked = replace(command, message_id=self._message_id, has_data_set=data_set is not None)
        size = len(data_set) if data_set is not None else 0
        deadline = Deadline(ANSWER_SECONDS + sending_seconds(size), self._should_stop)
        with self._abort_when_lost():
            self._connection.send_message(context.id, asked.encode(), data_set, deadline)
            while (answer := self._next_answer(deadline)) is None:
                pass
            _check(answer, asked)
        return answer

    def serve_until(self, done: Callable[[], bool], seconds: float) -> None:
        """Serve requests of the peer until ``done`` returns true, or the time is over.

        Raises:
            ConnectionLost: The peer ended the association.
        """
        deadline = Deadline(seconds, self._should_stop)
        with self._abort_when_lost():
            try:
                while not done():
                    self._next_answer(deadline)
            except ConnectionLost as error:
                if not error.silent:
                    raise

    def release(self) -> None:
        """Release the association (A-RELEASE); close the connection if the peer does not answer."""
        if self.ended:
            return
        deadline = Deadline(RELEASE_SECONDS)
        with suppress(ConnectionLost):
            self._connection.send(RELEASE_RQ, NOTHING, deadline)
            while (kind := self._connection.receive(deadline)[0]) not in (RELEASE_RP, ABORT):
                if kind == RELEASE_RQ:  # both sides asked at once
                    self._connection.send(RELEASE_RP, NOTHING, deadline)
        self._close()

    def abort(self) -> None:
        """Abort the association (A-ABORT)."""
        if not self.ended:
            with suppress(ConnectionLost):
                self._connection.send(ABORT, NOTHING, Deadline(ABORT_SECONDS))
            self._close()

    def _close(self) -> None:
        self.ended = True
        self._connection.close()

    @contextmanager
    def _abort_when_lost(self) -> Iterator[None]:
        """Abort on a lost answer: arriving late, it would be taken for that of the next request."""
        try:
            yield
        except ConnectionLost:
            self.abort()
            raise

    def _next_answer(self, deadline: Deadline) -> Command | None:
        """Read the next message: return a response; serve a request and return None."""
        message = self._messages.read(deadline)
        context = self.agreement.contexts.get(message.context_id)
        if context is None:
            raise ConnectionLost("used a presentation context that was not negotiated")
        if message.command.is_response:
            return message.command
        self._serve(context, message, deadline)
        return None

    def _serve(self, context: AcceptedContext, message: Message, deadline: Deadline) -> None:
        asked = message.command
        answer = Command(
            field=asked.field | RESPONSE,
            affected_class=asked.affected_class or asked.requested_class,
            affected_instance=asked.affected_instance or asked.requested_instance,
            responded_to=asked.message_id,
            status=self.on_request(context, message),
            event_type=asked.event_type,
        )
        self._connection.send_message(message.context_id, answer.encode(), None, deadline)


@contextmanager
def associate(
    peer: Peer,
    contexts: Sequence[PresentationContext],
    *,
    calling_ae: str,
    tls: ssl.SSLContext | None = None,
    provided: Sequence[str] = (),
    should_stop: ShouldStop = _never,
) -> Iterator[Association]:
    """Associate with a peer; the association is released (after an exception: aborted) at the end.

    Args:
        peer: The called system.
        contexts: Presentation contexts to propose.
        calling_ae: This node's AE title.
        tls: TLS context; None for a plain connection.
        provided: SOP classes of which this node is the provider (SCP), not the user (SCU).
        should_stop: Called while waiting for the peer.

    Raises:
        PeerError: The peer cannot be reached, rejects the association, or accepts none of the
            contexts. Transient unless the peer rejects permanently.
    """
    try:
        connection = Connection.open(peer.host, peer.port, tls=tls)
    except OSError as error:
        raise unreachable(peer, error) from error
    try:
        proposal = request_pdu(peer, contexts, calling_ae=calling_ae, provided=provided)
        association = _negotiate(connection, proposal, contexts, peer, should_stop)
        try:
            yield association
        except BaseException:
            association.abort()
            raise
        association.release()
    except ConnectionLost as error:
        raise PeerError(f"{describe(peer)} {error}.", transient=True) from error
    finally:
        connection.close()


def _negotiate(
    connection: Connection,
    proposal: bytes,
    contexts: Sequence[PresentationContext],
    peer: Peer,
    should_stop: ShouldStop,
) -> Association:
    deadline = Deadline(NEGOTIATION_SECONDS, should_stop)
    try:
        connection.send(ASSOCIATE_RQ, proposal, deadline)
        kind, body = connection.receive(deadline)
    except ConnectionLost as error:
        raise ConnectionLost(f"{error} while the association was negotiated") from error
    try:
        agreement = read_answer(kind, body, contexts, peer)
    except PeerError:
        with suppress(ConnectionLost):
            connection.send(ABORT, NOTHING, Deadline(ABORT_SECONDS))
        raise
    connection.max_pdu_bytes = agreement.max_pdu_bytes
    association = Association(connection, agreement, should_stop)
    if not agreement.contexts:
        association.release()
        raise none_accepted(peer, agreement)
    return association


def _check(answer: Command, asked: Command) -> None:
    """Check that a response fits its request; for C-STORE also its SOP UIDs (PS3.7, 9.3.1.2)."""
    fits = answer.field == asked.field | RESPONSE and answer.responded_to == asked.message_id
    if not fits or answer.status is None:
        raise ConnectionLost("sent a response that does not fit the request")
    if asked.field != C_STORE_RQ:
        return
    if answer.affected_instance not in ("", asked.affected_instance):
        raise ConnectionLost("answered for another SOP instance than the one that was sent")
    if answer.affected_class not in ("", asked.affected_class):
        raise ConnectionLost("answered for another SOP class than the one that was sent")

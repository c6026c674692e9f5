"""An association that this node asked for: one message at a time, each with its answer."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import pynetdicom
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
"""How long a peer may take to answer one message; a PACS with a busy archive takes its time."""

NEGOTIATION_SECONDS = 30.0
RELEASE_SECONDS = 5.0
ABORT_SECONDS = 1.0

_LARGEST_MESSAGE_ID = 0xFFFF

pynetdicom._config.LOG_HANDLER_LEVEL = "none"

OnRequest = Callable[[AcceptedContext, Message], int]
"""Handles a request from the peer and returns the status to answer with (PS3.7, annex C)."""


ShouldStop = Callable[[], bool]
"""Whether this process is to stop; what is under way is then given up soon."""


def _never() -> bool:
    return False


def _unrecognized(_: AcceptedContext, __: Message) -> int:
    return UNRECOGNIZED_OPERATION


class Association:
    """An established association; :func:`associate` makes one.

    Args:
        connection: To the peer.
        agreement: What was negotiated.
        should_stop: Asked while the peer is waited for.

    Attributes:
        agreement: What was negotiated.
        on_request: Called when the peer sends a request of its own.
        ended: Whether it is over; nothing more can be sent.
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
        """The accepted context for a SOP class (in this transfer syntax), if there is one."""
        for context in self.agreement.contexts.values():
            if context.sop_class == sop_class and transfer_syntax in ("", context.transfer_syntax):
                return context
        return None

    def request(
        self, context: AcceptedContext, command: Command, data_set: bytes | memoryview | None = None
    ) -> Command:
        """Send a request and wait for its answer; requests of the peer are served meanwhile.

        Raises:
            ConnectionLost: No answer came; the association has ended.
        """
        self._message_id = self._message_id % _LARGEST_MESSAGE_ID + 1
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
        """Serve requests of the peer until ``done``, at most for so long.

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
        """End in order (A-RELEASE); a peer that does not answer is hung up on."""
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
        """End at once (A-ABORT)."""
        if not self.ended:
            with suppress(ConnectionLost):
                self._connection.send(ABORT, NOTHING, Deadline(ABORT_SECONDS))
            self._close()

    def _close(self) -> None:
        self.ended = True
        self._connection.close()

    @contextmanager
    def _abort_when_lost(self) -> Iterator[None]:
        """An answer that is late would be taken for the answer to the next request."""
        try:
            yield
        except ConnectionLost:
            self.abort()
            raise

    def _next_answer(self, deadline: Deadline) -> Command | None:
        """The next message when it is an answer; a request is served and None returned."""
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
    """An association with a peer, released (or given up) at the end.

    Args:
        peer: Whom to call.
        contexts: What to propose.
        calling_ae: This node's AE title.
        tls: Speak TLS with these certificates.
        provided: SOP classes of which this node is the provider, not the user.
        should_stop: Asked while the peer is waited for.

    Raises:
        PeerError: The peer cannot be reached, refuses, or accepts none of the contexts. Transient
            unless the peer says that its refusal is permanent.
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
    connection.largest_pdu = agreement.largest_pdu
    association = Association(connection, agreement, should_stop)
    if not agreement.contexts:
        association.release()
        raise none_accepted(peer, agreement)
    return association


def _check(answer: Command, asked: Command) -> None:
    """Compare an answer with its request; a C-STORE's also by what it names (PS3.7, 9.3.1.2)."""
    fits = answer.field == asked.field | RESPONSE and answer.responded_to == asked.message_id
    if not fits or answer.status is None:
        raise ConnectionLost("answered something that was not asked")
    if asked.field != C_STORE_RQ:
        return
    if answer.affected_instance not in ("", asked.affected_instance):
        raise ConnectionLost("answered for another SOP instance than the one that was sent")
    if answer.affected_class not in ("", asked.affected_class):
        raise ConnectionLost("answered for another SOP class than the one that was sent")

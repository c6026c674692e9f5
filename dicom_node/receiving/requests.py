"""Requests of one association: assembled from fragments, handled and answered in order."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    EnhancedCTImageStorage,
)

from dicom_node.audit import Transfer
from dicom_node.dimse.acceptor_connection import INVALID_PARAMETER, AcceptorConnection, Violation
from dicom_node.dimse.command import (
    C_ECHO_RQ,
    C_STORE_RQ,
    RESPONSE,
    Command,
    MalformedCommand,
    decode,
)
from dicom_node.dimse.message import Fragment
from dicom_node.dimse.proposal import AcceptedContext
from dicom_node.dimse.services import MAX_DATA_SET_BYTES, Caller, Handler, Request, Service
from dicom_node.dimse.status import PROCESSING_FAILURE, SUCCESS, UNRECOGNIZED_OPERATION
from dicom_node.logs import get_logger, reason_of
from dicom_node.receiving.intake import Intake
from dicom_node.receiving.reception import Reception
from dicom_node.receiving.slots import Slot

log = get_logger(__name__)

STORAGE_CLASSES = (str(CTImageStorage), str(EnhancedCTImageStorage))
"""SOP classes of images; enhanced CT is negotiated only if `accept.enhanced_ct` is set."""

C_CANCEL_RQ = 0x0FFF

MAX_COMMAND_BYTES = 1 << 16

SLOW_MESSAGE_SECONDS = 120.0
MIN_BYTES_PER_SECOND = 1024
"""A message that takes longer than `SLOW_MESSAGE_SECONDS` must arrive at least at this rate."""

PROGRESS_BYTES = 256 << 10
"""An association keeps its slot for every part of this size of an image under way."""


class _Sink(Protocol):
    """Receiver of a request's data set."""

    @property
    def is_kept(self) -> bool:
        """Whether it is an image that is being stored."""

    @property
    def comment(self) -> str:
        """Error Comment of the answer; empty for none."""

    def write(self, data: memoryview) -> None:
        """Add the next bytes."""

    def finish(self) -> int:
        """Handle the complete request and return the status to answer with."""

    def discard(self) -> None:
        """Drop the incomplete request."""


class Requests:
    """Assembles the peer's requests and answers them, one after the other.

    Args:
        connection: Connection for the answers.
        caller: The peer.
        contexts: Accepted presentation contexts, by identifier.
        reception: Storage for images.
        services: Services by SOP class, for requests that carry no image.
        transfer: Audit record of each image that is stored.
        slot: The association's slot, renewed as images arrive.

    Attributes:
        count: Number of requests answered.
        last_image_at: Time of the last answer to an image, by ``time.monotonic``; 0 for none.
    """

    def __init__(
        self,
        connection: AcceptorConnection,
        caller: Caller,
        contexts: Mapping[int, AcceptedContext],
        reception: Reception,
        services: Mapping[str, Service],
        transfer: Transfer,
        slot: Slot,
    ) -> None:
        self._transfer, self._slot = transfer, slot
        self._renewed_at_size = 0
        self._remarks: set[str] = set()
        self.count = 0
        self._connection, self._caller, self._contexts = connection, caller, contexts
        self._reception, self._services = reception, services
        self._encoded = bytearray()
        self._command: Command | None = None
        self._context = AcceptedContext(0, "", "")
        self._sink: _Sink | None = None
        self._begun_at, self._size = 0.0, 0
        self.last_image_at = 0.0

    def take(self, fragment: Fragment) -> None:
        """Add the next fragment, and handle the request that it completes.

        Raises:
            Violation: The fragment does not continue the message.
            ConnectionLost: The answer could not be sent.
        """
        if fragment.is_command != (self._command is None):
            raise Violation("sent the parts of a message in the wrong order", INVALID_PARAMETER)
        self._check_rate(len(fragment.data))
        if self._sink is None:
            self._take_command(fragment)
        elif fragment.context_id != self._context.id:
            raise Violation("changed the context within a message", INVALID_PARAMETER)
        else:
            self._sink.write(memoryview(fragment.data))
            if self._size > self._renewed_at_size + PROGRESS_BYTES and self._sink.is_kept:
                self._renewed_at_size = self._size
                self._slot.renew()
            if fragment.is_last:
                self._finish()

    def discard(self) -> None:
        """Drop an incomplete request."""
        if self._sink is not None:
            self._sink.discard()

    def _check_rate(self, size: int) -> None:
        now = time.monotonic()
        if not self._size:
            self._begun_at = now
        self._size += size + 1
        taken = now - self._begun_at
        if taken > SLOW_MESSAGE_SECONDS and self._size < taken * MIN_BYTES_PER_SECOND:
            raise Violation("is too slow", INVALID_PARAMETER)

    def _take_command(self, fragment: Fragment) -> None:
        if self._encoded and fragment.context_id != self._context.id:
            raise Violation("changed the context within a message", INVALID_PARAMETER)
        self._encoded += fragment.data
        if len(self._encoded) > MAX_COMMAND_BYTES:
            raise Violation("sent a command without end", INVALID_PARAMETER)
        self._context = self._agreed(fragment.context_id)
        if not fragment.is_last:
            return
        try:
            self._command = decode(bytes(self._encoded))
        except MalformedCommand as error:
            raise Violation("sent a command that cannot be read", INVALID_PARAMETER) from error
        self._sink = self._sink_for(self._command)
        if not self._command.has_data_set:
            self._finish()

    def _agreed(self, context_id: int) -> AcceptedContext:
        context = self._contexts.get(context_id)
        if context is None:
            raise Violation("used a context that was not negotiated", INVALID_PARAMETER)
        return context

    def _sink_for(self, command: Command) -> _Sink:
        sop_class = self._context.sop_class
        if command.field == C_STORE_RQ and sop_class in STORAGE_CLASSES:
            return Intake(
                self._reception,
                self._caller,
                self._context,
                command,
                self._transfer,
                self._remarks,
            )
        handler: Handler | None = None
        if command.field == C_ECHO_RQ:
            handler = _echo
        elif sop_class in self._services:
            handler = self._services[sop_class].handlers.get(command.field)
        return _Collector(self._caller, self._context, command, handler)

    def _finish(self) -> None:
        command, sink = self._command, self._sink
        assert command is not None
        assert sink is not None
        status = sink.finish()
        self._command = self._sink = None
        self._encoded, self._size, self._renewed_at_size = bytearray(), 0, 0
        self.count += 1
        if command.field == C_STORE_RQ:
            self.last_image_at = time.monotonic()
            if status == SUCCESS:
                self._slot.renew()
        if command.is_response or command.field == C_CANCEL_RQ:
            return  # it needs no answer, and no operation is under way that could be cancelled
        self._answer(command, status, sink.comment)

    def _answer(self, asked: Command, status: int, comment: str) -> None:
        answer = Command(
            field=asked.field | RESPONSE,
            affected_class=asked.affected_class or asked.requested_class,
            affected_instance=asked.affected_instance or asked.requested_instance,
            responded_to=asked.message_id,
            status=status,
            event_type=asked.event_type,
            action_type=asked.action_type,
            error_comment=comment,
        )
        self._connection.send_message(self._context.id, answer.encode(), None)


class _Collector:
    """A request that carries no image: its data set is collected in memory."""

    comment = ""

    def __init__(
        self, caller: Caller, context: AcceptedContext, command: Command, handler: Handler | None
    ) -> None:
        self._caller, self._context, self._command = caller, context, command
        self._handler = handler
        self._data = bytearray()

    @property
    def is_kept(self) -> bool:
        return False

    def write(self, data: memoryview) -> None:
        if len(self._data) + len(data) > MAX_DATA_SET_BYTES:
            raise Violation("sent more than such a request can need", INVALID_PARAMETER)
        if self._handler is not None:
            self._data += data

    def finish(self) -> int:
        command, handler = self._command, self._handler
        if handler is None:
            log.warning(
                "request of a kind that is not served",
                calling=self._caller.ae_title,
                command=f"0x{command.field:04X}",
            )
            return UNRECOGNIZED_OPERATION
        try:
            return handler(Request(self._caller, self._context, command, bytes(self._data)))
        except Exception as error:
            log.error("a request failed", command=f"0x{command.field:04X}", reason=reason_of(error))
            return PROCESSING_FAILURE

    def discard(self) -> None:
        self._data.clear()


def _echo(request: Request) -> int:
    log.debug("echo", calling=request.caller.ae_title)
    return SUCCESS

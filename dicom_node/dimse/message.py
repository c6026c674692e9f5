"""DIMSE messages: a command set and perhaps a data set, in fragments (PS3.8, annex E)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from dicom_node.deadline import Deadline
from dicom_node.dimse.command import Command, MalformedCommand, decode
from dicom_node.dimse.connection import (
    ABORT,
    COMMAND,
    DATA,
    LAST,
    RELEASE_RP,
    RELEASE_RQ,
    Connection,
    ConnectionLost,
    aborted,
)

MAX_MESSAGE_BYTES = 16 << 20
"""Longest message to a requestor: a report on storage commitment, not an image."""

NOTHING = b"\0\0\0\0"
"""Body of A-RELEASE-RQ, A-RELEASE-RP and A-ABORT."""


class MalformedFragment(ConnectionLost):
    """A malformed P-DATA-TF PDU (PS3.8, 9.3.5)."""


@dataclass(frozen=True)
class Message:
    """A message from the peer.

    Attributes:
        context_id: Its presentation context.
        data_set: Encoded in the context's transfer syntax; empty for none.
    """

    context_id: int
    command: Command
    data_set: bytes


@dataclass(frozen=True)
class Fragment:
    """A piece of a command or of a data set (PS3.8, annex E)."""

    context_id: int
    is_command: bool
    is_last: bool
    data: bytes | memoryview


class MessageReader:
    """Assembles messages from fragments (PS3.8, annex E).

    Args:
        connection: Connection to the peer.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: deque[Fragment] = deque()

    def read(self, deadline: Deadline) -> Message:
        """Read the next message.

        Raises:
            ConnectionLost: The association has ended, or the peer sent no valid message.
        """
        encoded, context_id = self._whole(deadline, is_command=True)
        command = _decoded(encoded)
        if not command.has_data_set:
            return Message(context_id, command, b"")
        data_set, same_context = self._whole(deadline, is_command=False)
        if same_context != context_id:
            raise ConnectionLost("changed the presentation context within a message")
        return Message(context_id, command, data_set)

    def _whole(self, deadline: Deadline, *, is_command: bool) -> tuple[bytes, int]:
        """The fragments up to the last one, joined, and their context."""
        joined = bytearray()
        while True:
            fragment = self._next(deadline)
            if fragment.is_command != is_command:
                raise ConnectionLost("sent the parts of a message in the wrong order")
            joined += fragment.data
            if len(joined) > MAX_MESSAGE_BYTES:
                raise ConnectionLost("sent a longer message than a requestor accepts")
            if fragment.is_last:
                return bytes(joined), fragment.context_id

    def _next(self, deadline: Deadline) -> Fragment:
        while not self._waiting:
            kind, body = self._connection.receive(deadline)
            if kind == RELEASE_RQ:
                self._connection.send(RELEASE_RP, NOTHING, deadline)
                raise ConnectionLost("released the association")
            if kind == ABORT:
                raise aborted(body)
            if kind != DATA:
                raise ConnectionLost(f"sent a PDU of type 0x{kind:02X} that is not allowed here")
            self._waiting.extend(fragments(body))
        return self._waiting.popleft()


def fragments(body: bytes | memoryview) -> Iterator[Fragment]:
    """Split a P-DATA-TF PDU into its presentation data values (PS3.8, 9.3.5) without copying.

    Raises:
        MalformedFragment: There is none, or their lengths do not fit the PDU.
    """
    if not body:
        raise MalformedFragment("sent a P-DATA-TF PDU without a presentation data value")
    offset = 0
    while offset < len(body):
        length = int.from_bytes(body[offset : offset + 4], "big")
        end = offset + 4 + length
        if length < 2 or end > len(body):
            raise MalformedFragment("sent a fragment of an impossible length")
        control = body[offset + 5]
        data = body[offset + 6 : end]
        yield Fragment(body[offset + 4], bool(control & COMMAND), bool(control & LAST), data)
        offset = end


def _decoded(command: bytes) -> Command:
    try:
        return decode(command)
    except MalformedCommand as error:
        raise ConnectionLost("sent a command that cannot be read") from error

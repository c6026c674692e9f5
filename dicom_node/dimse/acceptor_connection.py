"""Protocol data units over one connection, as an acceptor receives them (PS3.8, section 9.3).

The receiver's throughput depends on this file. Everything that has arrived is read at once into one
reused buffer: the kernel acknowledges at once only when nothing is left unread, and a sender with
Nagle's algorithm (DCMTK as shipped) holds back the rest of its message until then, 40 ms an image.
Nothing is allocated for a length that a peer merely announces, and a PDU that has begun must be
complete in time.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from contextlib import suppress

from dicom_node.deadline import Deadline
from dicom_node.dimse.connection import (
    ABORT,
    ASSOCIATE_RQ,
    MAX_RECEIVED_BYTES,
    Connection,
    ConnectionLost,
)
from dicom_node.dimse.proposal import PDU_BYTES

REQUEST_SECONDS = 30.0
"""Time for a peer to request an association (the ARTIM timer, PS3.8, 9.1.4)."""

SILENCE_SECONDS = 60.0
"""Longest silence on an association, and longest time for one PDU to arrive."""

LINGER_SECONDS = 2.0
"""Time for a peer to read the last PDU and to hang up."""

HEADER_BYTES = 6

BUFFER_BYTES = 2 * PDU_BYTES

UNSPECIFIED, UNRECOGNIZED_PDU, UNEXPECTED_PDU = 0, 1, 2
INVALID_PARAMETER = 6
"""Reasons of an A-ABORT by the service provider (PS3.8, table 9-26)."""

_BY_PROVIDER = 2
_KNOWN = range(ASSOCIATE_RQ, ABORT + 1)


class Violation(ConnectionLost):
    """The peer broke the protocol; it gets an A-ABORT with the reason.

    Attributes:
        reason: Reason code of PS3.8, table 9-26.
    """

    def __init__(self, what: str, reason: int) -> None:
        super().__init__(what)
        self.reason = reason


class AcceptorConnection(Connection):
    """PDUs from a peer that has connected to this node.

    Args:
        transport: The connected socket; closed with this object.

    Attributes:
        heard: Whether the peer has sent anything.
    """

    def __init__(self, transport: socket.socket) -> None:
        super().__init__(transport)
        self._buffer = bytearray(BUFFER_BYTES)
        self._start = self._end = 0
        self.heard = False
        self._is_plain = not isinstance(transport, ssl.SSLSocket)
        self.allow(REQUEST_SECONDS)

    def allow(self, seconds: float) -> None:
        """Set the longest silence, and the longest time for each PDU, from now on."""
        self._seconds = seconds
        if self._is_plain:
            limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)

    def next_header(self) -> tuple[int, int]:
        """Read the type and length of the next PDU.

        Raises:
            ConnectionLost: The peer hung up or sent nothing.
            Violation: The type is unknown or the length impossible.
        """
        self._need(HEADER_BYTES)
        kind, length = struct.unpack_from(">BxI", self._buffer, self._start)
        self._start += HEADER_BYTES
        if kind not in _KNOWN:
            raise Violation("sent something that is not DICOM", UNRECOGNIZED_PDU)
        if length > MAX_RECEIVED_BYTES:
            raise Violation("announced a PDU of an impossible length", INVALID_PARAMETER)
        return kind, length

    def body(self, length: int) -> memoryview:
        """Read the body of the PDU; valid until the next call.

        Raises:
            ConnectionLost: The peer hung up or was too slow.
        """
        self._need(length)
        begin = self._start
        self._start += length
        return memoryview(self._buffer)[begin : begin + length]

    def abort(self, reason: int = UNSPECIFIED) -> None:
        """Send an A-ABORT, if the peer still takes it."""
        with suppress(ConnectionLost):
            self.send(ABORT, bytes((0, 0, _BY_PROVIDER, reason)), Deadline(LINGER_SECONDS))

    def shut(self) -> None:
        """Shut down both directions, which wakes the reading thread; callable from any thread."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def linger(self) -> None:
        """Wait until the peer has read the last PDU and hung up, at most `LINGER_SECONDS`.

        Closing with unread bytes in the buffer would reset the connection, and the peer would not
        learn why it was refused.
        """
        deadline = time.monotonic() + LINGER_SECONDS
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            while (remaining := deadline - time.monotonic()) > 0:
                self._socket.settimeout(remaining)
                if not self._socket.recv_into(self._buffer):
                    return

    def _need(self, size: int) -> None:
        """Read until this many unconsumed bytes are in the buffer."""
        self._make_room(size)
        deadline = time.monotonic() + self._seconds
        while self._end - self._start < size:
            count = self._read_some(memoryview(self._buffer)[self._end :], deadline)
            if not count:
                raise ConnectionLost("hung up")
            self._end += count
            self.heard = True

    def _make_room(self, size: int) -> None:
        """Make the buffer hold this many bytes from the next unconsumed one on."""
        if self._start == self._end:
            self._start = self._end = 0
        if self._start + size > len(self._buffer):
            rest = self._buffer[self._start : self._end]
            if size > len(self._buffer):
                self._buffer = bytearray(size)
            self._buffer[: len(rest)] = rest
            self._start, self._end = 0, len(rest)

    def _read_some(self, view: memoryview, deadline: float) -> int:
        remaining = deadline - time.monotonic()
        try:
            if remaining <= 0:
                raise TimeoutError
            self._acknowledge_at_once()
            # In plain connections the kernel keeps the time limit (SO_RCVTIMEO): one call, not two.
            wanted = None if self._is_plain else remaining
            if self._socket.gettimeout() != wanted:
                self._socket.settimeout(wanted)
            return self._socket.recv_into(view)
        except (BlockingIOError, TimeoutError, ssl.SSLWantReadError) as error:
            raise ConnectionLost(f"was silent for {self._seconds:.0f} s", silent=True) from error
        except (OSError, ValueError) as error:  # ValueError: closed by the receiver's end
            raise ConnectionLost("hung up") from error

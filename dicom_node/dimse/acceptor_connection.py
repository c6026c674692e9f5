"""Protocol data units as an acceptor takes them (PS3.8, section 9.3): straight off the socket.

A receiver's rate is decided here. All that has come is read at once, into one buffer that is used
again and again: a kernel acknowledges at once only when nothing is left unread, and a sender with
Nagle's algorithm (DCMTK as shipped) holds the rest of its message back until then, 40 ms an image.
Nothing is allocated for what a peer merely announces, and a PDU that was begun has to be whole
within its time.
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
    LARGEST_TAKEN_BYTES,
    Connection,
    ConnectionLost,
)
from dicom_node.dimse.proposal import PDU_BYTES

REQUEST_SECONDS = 30.0
"""How long a peer may take to ask for an association (the ARTIM timer, PS3.8, 9.1.4)."""

SILENCE_SECONDS = 60.0
"""How long an association may be silent, and how long one PDU may take to arrive."""

LINGER_SECONDS = 2.0
"""How long a peer is given to read the last PDU and to hang up."""

HEADER_BYTES = 6

BUFFER_BYTES = 2 * PDU_BYTES

UNSPECIFIED, UNRECOGNISED_PDU, UNEXPECTED_PDU = 0, 1, 2
INVALID_PARAMETER = 6
"""Reasons of an A-ABORT by the service provider (PS3.8, table 9-26)."""

_BY_PROVIDER = 2
_KNOWN = range(ASSOCIATE_RQ, ABORT + 1)


class Violation(ConnectionLost):
    """The peer broke the protocol; it gets an A-ABORT that says how.

    Attributes:
        reason: Of PS3.8, table 9-26.
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
        """Set how long the peer may be silent, and how long each PDU may take from now on."""
        self._seconds = seconds
        if self._is_plain:
            limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)

    def next_header(self) -> tuple[int, int]:
        """Type and length of the next PDU.

        Raises:
            ConnectionLost: The peer hung up or was silent.
            Violation: It announces more than anybody needs.
        """
        self._need(HEADER_BYTES)
        kind, length = struct.unpack_from(">BxI", self._buffer, self._start)
        self._start += HEADER_BYTES
        if kind not in _KNOWN:
            raise Violation("sent something that is not DICOM", UNRECOGNISED_PDU)
        if length > LARGEST_TAKEN_BYTES:
            raise Violation("announced a PDU of an impossible length", INVALID_PARAMETER)
        return kind, length

    def body(self, length: int) -> memoryview:
        """What follows the header; good until the next call.

        Raises:
            ConnectionLost: The peer hung up or was too slow.
        """
        self._need(length)
        begin = self._start
        self._start += length
        return memoryview(self._buffer)[begin : begin + length]

    def abort(self, reason: int = UNSPECIFIED) -> None:
        """Tell the peer that the association ends (A-ABORT), if it still listens."""
        with suppress(ConnectionLost):
            self.send(ABORT, bytes((0, 0, _BY_PROVIDER, reason)), Deadline(LINGER_SECONDS))

    def shut(self) -> None:
        """End both directions at once; wakes whoever reads. From any thread."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def linger(self) -> None:
        """Let the peer read what was sent last: close only after it has, or after a while.

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
        """Read until so many bytes are there that were not handed out yet."""
        self._make_room(size)
        deadline = time.monotonic() + self._seconds
        while self._end - self._start < size:
            count = self._read_some(memoryview(self._buffer)[self._end :], deadline)
            if not count:
                raise ConnectionLost("hung up")
            self._end += count
            self.heard = True

    def _make_room(self, size: int) -> None:
        """Let the buffer hold so many bytes from the place of the next one on."""
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

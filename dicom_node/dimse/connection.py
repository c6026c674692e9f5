"""Protocol data units over one connection, as a requestor exchanges them (PS3.8, section 9.3).

One thread, one blocking socket: data is sent in as few system calls as the kernel allows, and the
thread that waits for an answer reads the socket itself. pynetdicom's requestor passes every message
through three threads and loses one in a thousand on the way (decision 0008).
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from typing import Self

from dicom_node.deadline import Deadline
from dicom_node.errors import PeerError
from dicom_node.timed_socket import receive_some, send_all

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ = 0x01, 0x02, 0x03
DATA, RELEASE_RQ, RELEASE_RP, ABORT = 0x04, 0x05, 0x06, 0x07
"""PDU types (PS3.8, table 9-11 and following)."""

COMMAND, LAST = 0x01, 0x02
"""Bits of the message control header of a fragment (PS3.8, E.2)."""

CONNECT_SECONDS = 10.0
"""A host that is switched off does not answer at all."""

STALL_SECONDS = 60.0
"""Time for a peer to take an answer."""

MAX_SENT_BYTES = 131072
"""Longest PDU body sent, also to a peer that sets no limit."""

MAX_RECEIVED_BYTES = 1 << 20
"""A peer that announces a longer PDU is not speaking DICOM: an answer has a few hundred bytes."""

_READ_BYTES = 65536
_ABORT_BYTES = 10
_PENDING_ABORT_SECONDS = 0.2
_QUICK_ACKNOWLEDGEMENT = getattr(socket, "TCP_QUICKACK", None)  # Linux has it


class ConnectionLost(PeerError):  # noqa: N818 - the name says what happened
    """The connection ended, or the peer stopped answering, before the exchange was complete.

    Attributes:
        silent: Whether the peer is still connected but does not answer in time.
    """

    def __init__(self, what: str, *, silent: bool = False) -> None:
        super().__init__(what, transient=True)
        self.silent = silent


class Connection:
    """PDUs to and from one peer.

    Args:
        transport: A connected socket; closed with this object.

    Attributes:
        max_pdu_bytes: Longest PDU body that the peer accepts.
    """

    def __init__(self, transport: socket.socket) -> None:
        self._socket = transport
        self._read = bytearray()
        self.max_pdu_bytes = MAX_SENT_BYTES
        transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def open(cls, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> Self:
        """Connect to a peer.

        Raises:
            ssl.SSLError: The peer speaks no TLS, or one side refuses the other's certificate.
            OSError: Nothing answers there.
        """
        transport = socket.create_connection((host, port), CONNECT_SECONDS)
        if tls is not None:
            try:
                transport = tls.wrap_socket(transport, server_hostname=host)
            except (ConnectionError, TimeoutError) as error:
                transport.close()
                raise ssl.SSLError("the TLS handshake was not answered") from error
            except BaseException:
                transport.close()
                raise
        return cls(transport)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def send(self, kind: int, body: bytes, deadline: Deadline | None = None) -> None:
        """Send one PDU; without a deadline it may take `STALL_SECONDS`.

        Raises:
            ConnectionLost: The peer hung up or does not take it in time.
        """
        self._send_parts([struct.pack(">BxI", kind, len(body)), body], deadline)

    def send_message(
        self,
        context_id: int,
        command: bytes,
        data_set: bytes | memoryview | None,
        deadline: Deadline | None = None,
    ) -> None:
        """Send a command set and its data set, in fragments that fit the peer's PDUs.

        Without a deadline both together may take `STALL_SECONDS`.

        Raises:
            ConnectionLost: The peer hung up or does not take it in time.
        """
        parts = list(self._fragments(context_id, command, COMMAND))
        if data_set is not None:
            parts += self._fragments(context_id, data_set, 0)
        self._send_parts(parts, deadline)

    def receive(self, deadline: Deadline) -> tuple[int, bytes]:
        """Receive the next PDU.

        Returns:
            Its type, and its body after the header.

        Raises:
            ConnectionLost: The peer hung up, announced an impossible length, or sent nothing.
        """
        self._fill(6, deadline)
        kind, length = struct.unpack_from(">BxI", self._read)
        if length > MAX_RECEIVED_BYTES:
            raise ConnectionLost("sent something that is not DICOM")
        self._fill(6 + length, deadline)
        body = bytes(self._read[6 : 6 + length])
        del self._read[: 6 + length]
        return kind, body

    def _fragments(
        self, context_id: int, data: bytes | memoryview, control: int
    ) -> Iterator[bytes | memoryview]:
        """Headers and fragments in turn; the data is not copied."""
        size, view = (self.max_pdu_bytes - 6) & ~1, memoryview(data)  # of even length (PS3.8, E.1)
        for begin in range(0, max(len(data), 1), size):
            fragment = view[begin : begin + size]
            last = LAST if begin + size >= len(data) else 0
            length = len(fragment) + 2
            yield struct.pack(">BxIIBB", DATA, length + 4, length, context_id, control | last)
            yield fragment

    def _send_parts(self, parts: Sequence[bytes | memoryview], deadline: Deadline | None) -> None:
        try:
            send_all(self._socket, parts, deadline or Deadline(STALL_SECONDS))
        except TimeoutError as error:
            raise ConnectionLost("takes nothing more", silent=True) from error
        except OSError as error:
            raise self._pending_abort() or _hung_up(error) from error

    def _pending_abort(self) -> ConnectionLost | None:
        """Read an A-ABORT that the peer sent before the connection broke."""
        try:
            self._fill(_ABORT_BYTES, Deadline(_PENDING_ABORT_SECONDS))
        except ConnectionLost:
            return None
        return aborted(bytes(self._read[6:10])) if self._read[0] == ABORT else None

    def _fill(self, size: int, deadline: Deadline) -> None:
        """Read until this many bytes have arrived."""
        while len(self._read) < size:
            try:
                self._acknowledge_at_once()
                data = receive_some(self._socket, _READ_BYTES, deadline)
            except TimeoutError as error:
                raise ConnectionLost("gave no answer in time", silent=True) from error
            except OSError as error:
                raise _hung_up(error) from error
            if not data:
                raise ConnectionLost("hung up")
            self._read += data

    def _acknowledge_at_once(self) -> None:
        """Ask the kernel not to delay the next acknowledgement; it forgets after each.

        DCMTK sends an answer in two small writes and, as shipped, the second waits for the
        acknowledgement of the first: 40 ms an image.
        """
        if _QUICK_ACKNOWLEDGEMENT is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACKNOWLEDGEMENT, 1)


def aborted(body: bytes) -> ConnectionLost:
    """The error that describes an A-ABORT, by its body (PS3.8, 9.3.8)."""
    source, reason = (body[2], body[3]) if len(body) >= 4 else (0, 0)
    if source != _PROVIDER:
        return ConnectionLost("aborted the association (A-ABORT, source 0: service user)")
    meaning = _ABORT_REASONS.get(reason, "reserved")
    return ConnectionLost(
        f"aborted the association (A-ABORT, source 2: service provider, reason {reason}: {meaning})"
    )


_PROVIDER = 2
_ABORT_REASONS = {
    0: "not specified",
    1: "unrecognized PDU",
    2: "unexpected PDU",
    4: "unrecognized PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}
"""PS3.8, table 9-26."""


def _hung_up(error: OSError) -> ConnectionLost:
    if isinstance(error, ssl.SSLError):  # TLS 1.3 refuses a certificate after the handshake
        words = (error.reason or "TLS failed").replace("_", " ").lower()
        return ConnectionLost(f"ended the TLS connection ({words}; check `tls` on both sides)")
    return ConnectionLost("hung up")

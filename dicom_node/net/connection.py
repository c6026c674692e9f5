"""Protocol data units over one connection, as a requestor sends and gets them (PS3.8, section 9.3).

One thread, one blocking socket: what is sent leaves in as few system calls as the kernel allows,
and whoever waits for an answer reads the socket himself. pynetdicom's requestor hands every message
through three threads and loses one in a thousand on the way (decision 0008).
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Self

from dicom_node.errors import PeerError

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ = 0x01, 0x02, 0x03
DATA, RELEASE_RQ, RELEASE_RP, ABORT = 0x04, 0x05, 0x06, 0x07
"""PDU types (PS3.8, table 9-11 and following)."""

COMMAND, LAST = 0x01, 0x02
"""Bits of a fragment's message control header (PS3.8, E.2)."""

CONNECT_SECONDS = 10.0
"""A host that is switched off does not answer at all."""

STALL_SECONDS = 60.0
"""A peer that takes no byte for so long is given up."""

LARGEST_SENT_BYTES = 131072
"""Longest PDU sent, also to a peer that sets no limit."""

LARGEST_TAKEN_BYTES = 1 << 20
"""A peer that announces a longer PDU is not speaking DICOM: an answer has a few hundred bytes."""

_READ_BYTES = 65536
_PARTS_PER_CALL = 512
_QUICK_ACKNOWLEDGEMENT = getattr(socket, "TCP_QUICKACK", None)  # Linux has it


class ConnectionLost(PeerError):  # noqa: N818 - the name says what happened
    """The connection ended, or the peer fell silent, before everything was said.

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
    """

    def __init__(self, transport: socket.socket) -> None:
        self._socket = transport
        self._read = bytearray()
        self.largest_pdu = LARGEST_SENT_BYTES
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

    def send(self, kind: int, body: bytes, *, seconds: float = STALL_SECONDS) -> None:
        """Send one PDU.

        Raises:
            ConnectionLost: The peer is gone or takes nothing for so long.
        """
        self._send_parts([struct.pack(">BxI", kind, len(body)), body], seconds)

    def send_message(
        self, context_id: int, command: bytes, data_set: bytes | memoryview | None
    ) -> None:
        """Send a command set and its data set, cut into fragments that fit the peer's PDUs.

        Raises:
            ConnectionLost: The peer is gone or takes nothing.
        """
        parts = list(self._fragments(context_id, command, COMMAND))
        if data_set is not None:
            parts += self._fragments(context_id, data_set, 0)
        self._send_parts(parts, STALL_SECONDS)

    def receive(self, deadline: float) -> tuple[int, bytes]:
        """The next PDU: its type and what follows its header.

        Args:
            deadline: Of ``time.monotonic``.

        Raises:
            ConnectionLost: The peer hung up, announced more than anybody needs, or was silent.
        """
        self._fill(6, deadline)
        kind, length = struct.unpack_from(">BxI", self._read)
        if length > LARGEST_TAKEN_BYTES:
            raise ConnectionLost("sent something that is not DICOM")
        self._fill(6 + length, deadline)
        body = bytes(self._read[6 : 6 + length])
        del self._read[: 6 + length]
        return kind, body

    def _fragments(
        self, context_id: int, data: bytes | memoryview, control: int
    ) -> Iterator[bytes | memoryview]:
        """Header, fragment, header, fragment: nothing of the data is copied."""
        size, view = self.largest_pdu - 6, memoryview(data)
        for begin in range(0, max(len(data), 1), size):
            fragment = view[begin : begin + size]
            last = LAST if begin + size >= len(data) else 0
            length = len(fragment) + 2
            yield struct.pack(">BxIIBB", DATA, length + 4, length, context_id, control | last)
            yield fragment

    def _send_parts(self, parts: Sequence[bytes | memoryview], seconds: float) -> None:
        try:
            self._socket.settimeout(seconds)
            if isinstance(self._socket, ssl.SSLSocket):  # knows no scattered data
                self._socket.sendall(b"".join(parts))
            else:
                self._send_scattered([memoryview(part) for part in parts])
        except TimeoutError as error:
            raise ConnectionLost("takes nothing more", silent=True) from error
        except OSError as error:
            raise _hung_up(error) from error

    def _send_scattered(self, parts: list[memoryview]) -> None:
        first = 0
        while first < len(parts):
            sent = self._socket.sendmsg(parts[first : first + _PARTS_PER_CALL])
            while first < len(parts) and sent >= len(parts[first]):
                sent -= len(parts[first])
                first += 1
            if sent:
                parts[first] = parts[first][sent:]

    def _fill(self, size: int, deadline: float) -> None:
        """Read until so many bytes are there."""
        while len(self._read) < size:
            remaining = deadline - time.monotonic()
            try:
                if remaining <= 0:
                    raise TimeoutError
                self._acknowledge_at_once()
                self._socket.settimeout(remaining)
                data = self._socket.recv(_READ_BYTES)
            except TimeoutError as error:
                raise ConnectionLost("gave no answer", silent=True) from error
            except OSError as error:
                raise _hung_up(error) from error
            if not data:
                raise ConnectionLost("hung up")
            self._read += data

    def _acknowledge_at_once(self) -> None:
        """Ask the kernel not to delay the next acknowledgement; it forgets, so ask every time.

        DCMTK sends an answer in two small writes and, as shipped, the second waits for the
        acknowledgement of the first: 40 ms an image.
        """
        if _QUICK_ACKNOWLEDGEMENT is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACKNOWLEDGEMENT, 1)


def _hung_up(error: OSError) -> ConnectionLost:
    if isinstance(error, ssl.SSLError):  # TLS 1.3 refuses a certificate after the handshake
        words = (error.reason or "TLS failed").replace("_", " ").lower()
        return ConnectionLost(f"ended the TLS connection ({words}; check `tls` on both sides)")
    return ConnectionLost("hung up")

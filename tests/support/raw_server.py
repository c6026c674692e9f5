"""A TCP server that speaks DICOM byte by byte, one association after the other."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Self

TALK_SECONDS = 10
JOIN_SECONDS = 20


class RawServer:
    """Accepts connections and hands each to :meth:`converse`; ends with its block."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    @contextlib.contextmanager
    def serving(self) -> Iterator[Self]:
        self._thread.start()
        try:
            yield self
        finally:
            self.ended.set()
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self._thread.join(JOIN_SECONDS)
            assert not self._thread.is_alive()

    def converse(self, connection: socket.socket) -> None:
        """Talk on one connection, which is closed at the end; EOFError and OSError end it too."""
        raise NotImplementedError

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError, EOFError):
                connection.settimeout(TALK_SECONDS)
                self.converse(connection)


def read_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Type and body of the next PDU.

    Raises:
        EOFError: The other side hung up.
    """
    kind, length = struct.unpack(">BxI", _exactly(connection, 6))
    return kind, _exactly(connection, length)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (part := connection.recv(size - len(data))):
            raise EOFError
        data += part
    return data

"""Reads and writes on a connected socket, each under one total deadline."""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import Iterable, Sequence

from dicom_node.deadline import Deadline

_PARTS_PER_CALL = 512


def receive_some(transport: socket.socket, size: int, deadline: Deadline) -> bytes:
    """Return up to `size` bytes as soon as any arrive; empty when the peer has closed.

    Raises:
        TimeoutError: The deadline has passed.
        OSError: The connection is lost.
    """
    while True:
        transport.settimeout(deadline.wait_seconds())
        try:
            return transport.recv(size)
        except TimeoutError:
            continue


def send_all(
    transport: socket.socket, parts: Sequence[bytes | memoryview], deadline: Deadline
) -> None:
    """Send parts one after another, in as few system calls as the kernel allows.

    Raises:
        TimeoutError: The deadline has passed.
        OSError: The connection is lost.
    """
    if isinstance(transport, ssl.SSLSocket):  # has no scatter-gather I/O
        parts = [b"".join(parts)]
    left, first = [memoryview(part) for part in parts], 0
    while first < len(left):
        sent = _send_some(transport, left[first : first + _PARTS_PER_CALL], deadline)
        while first < len(left) and sent >= len(left[first]):
            sent -= len(left[first])
            first += 1
        if sent:
            left[first] = left[first][sent:]


def _send_some(transport: socket.socket, parts: Sequence[memoryview], deadline: Deadline) -> int:
    while True:
        transport.settimeout(deadline.wait_seconds())
        try:
            if isinstance(transport, ssl.SSLSocket):
                return transport.send(parts[0])
            return transport.sendmsg(parts)
        except TimeoutError:
            continue


class TimedSocket:
    """A connected socket as :mod:`http.client` uses one, everything under one deadline.

    Args:
        transport: Connected socket; its owner closes it.
        deadline: Deadline of the whole exchange.
    """

    def __init__(self, transport: socket.socket, deadline: Deadline) -> None:
        self._transport, self._deadline = transport, deadline

    def sendall(self, data: bytes | memoryview | Iterable[bytes]) -> None:
        """Send bytes; raises ``TimeoutError`` when the deadline passes."""
        pieces = [data] if isinstance(data, bytes | bytearray | memoryview) else list(data)
        send_all(self._transport, pieces, self._deadline)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a buffered reader; its reads raise ``TimeoutError`` when the deadline passes."""
        return io.BufferedReader(_TimedReader(self._transport, self._deadline))

    def close(self) -> None:
        """Do nothing: :mod:`http.client` closes before it has read the body."""


class _TimedReader(io.RawIOBase):
    """The receiving side of a socket as a raw stream; closing it leaves the socket open."""

    def __init__(self, transport: socket.socket, deadline: Deadline) -> None:
        self._transport, self._deadline = transport, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = receive_some(self._transport, len(buffer), self._deadline)
        buffer[: len(data)] = data
        return len(data)

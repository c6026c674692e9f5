"""Servers that only collect what is sent to them: syslog, mail, web; on loopback, in threads."""

from __future__ import annotations

import contextlib
import http.server
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from typing import Any

import trustme


@dataclass
class Collected:
    """What has come in, and where to send it."""

    port: int
    items: list[bytes] = field(default_factory=list)
    refusing: bool = False
    """Whether the server answers that it cannot take anything now."""


@contextlib.contextmanager
def served(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def udp_collector() -> Iterator[Collected]:
    """A syslog collector of RFC 5426."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            collected.items.append(self.request[0])

    server = socketserver.UDPServer(("127.0.0.1", 0), Handler)
    collected = Collected(server.server_address[1])
    with served(server):
        yield collected


@contextlib.contextmanager
def tls_collector(
    authority: trustme.CA, *, port: int = 0, host: str = "127.0.0.1"
) -> Iterator[Collected]:
    """A syslog collector of RFC 5425 that asks for a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    class Handler(socketserver.StreamRequestHandler):
        def setup(self) -> None:
            self.request = context.wrap_socket(self.request, server_side=True)
            open_sockets.append(self.request)
            super().setup()

        def handle(self) -> None:
            while length := octet_count(self):
                collected.items.append(self.rfile.read(length))

        def finish(self) -> None:
            super().finish()
            self.request.close()

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client without our trust has hung up; that is what some tests want."""

    open_sockets: list[socket.socket] = []
    server = Server(("127.0.0.1", port), Handler)
    collected = Collected(server.server_address[1])
    with served(server):
        try:
            yield collected
        finally:
            for connection in open_sockets:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def octet_count(handler: socketserver.StreamRequestHandler) -> int:
    """The length before each message; 0 at the end of the connection."""
    digits = b""
    with contextlib.suppress(OSError):
        while (octet := handler.rfile.read(1)).isdigit():
            digits += octet
    return int(digits or b"0")


@contextlib.contextmanager
def web_collector() -> Iterator[Collected]:
    """Takes JSON documents by POST; `items` holds the bodies, after the header Authorization."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not collected.refusing:
                collected.items.append(self.headers.get("Authorization", "").encode() + body)
            self.send_response(503 if collected.refusing else 204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Silent."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    collected = Collected(server.server_address[1])
    with served(server):
        yield collected


@contextlib.contextmanager
def mail_collector(port: int = 0) -> Iterator[Collected]:
    """A mail server of RFC 5321, as far as one mail needs it."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say(b"220 collector")
            while line := self.rfile.readline():
                self.answer(line.split(b" ")[0].strip().upper())

        def answer(self, verb: bytes) -> None:
            if verb == b"DATA":
                self.say(b"354 go on")
                collected.items.append(b"".join(iter(self.rfile.readline, b".\r\n")))
            refused = collected.refusing and verb == b"MAIL"
            self.say(b"451 try again later" if refused else b"250 OK")

        def say(self, line: bytes) -> None:
            self.wfile.write(line + b"\r\n")

    server = socketserver.TCPServer(("127.0.0.1", port), Handler)
    collected = Collected(server.server_address[1])
    with served(server):
        yield collected


def mails(collected: Collected) -> list[Message]:
    return [message_from_bytes(item) for item in collected.items]

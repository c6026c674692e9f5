"""HTTP client for one exchange, bounded in time and in size whatever the server answers.

Nothing is taken from the environment: no proxy, no ``.netrc``, no certificates. No redirect is
followed, no cookie kept and no content coding accepted, so that a small answer cannot expand.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, cast
from urllib.parse import quote, urlsplit

from dicom_node.deadline import Deadline, sending_seconds
from dicom_node.errors import PeerError
from dicom_node.timed_socket import TimedSocket
from dicom_node.tls import public_context

CONNECT_SECONDS = 10.0
"""Timeout of the connection, as a host that is switched off does not answer at all."""

MAX_ANSWER_BYTES = 1 << 20

_PATH_CHARACTERS = "/%:@!$&'()*+,;=~-._"
_QUERY_CHARACTERS = _PATH_CHARACTERS + "?"


class Body(Protocol):
    """A request body of known length that is read while it is sent."""

    def __len__(self) -> int:
        """Return its length in bytes."""

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over its pieces."""


@dataclass(frozen=True)
class Answer:
    """Answer of a server.

    Attributes:
        status: HTTP status code.
        content_type: Media type in lower case without parameters; empty where none was given.
        whole: Whether the body is complete; False where it was too long and left out.
    """

    status: int
    content_type: str
    body: bytes
    whole: bool = True


class ExchangeFailed(PeerError):  # noqa: N818 - the name says what happened
    """No complete answer; the message is a clause for the caller's sentence.

    Attributes:
        tls: Whether no TLS connection was established.
    """

    def __init__(self, reason: str, *, tls: bool = False) -> None:
        super().__init__(reason, transient=True)
        self.tls = tls


class AnswerTooLong(ExchangeFailed):
    """The server answers with a longer body than is accepted.

    Attributes:
        answer: Status and media type, without the body.
    """

    def __init__(self, answer: Answer, max_bytes: int) -> None:
        super().__init__(f"its answer is longer than {max_bytes} bytes")
        self.answer = answer


def exchange(
    method: str,
    url: str,
    *,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    body: bytes | Body = b"",
    tls: ssl.SSLContext | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    max_bytes: int = MAX_ANSWER_BYTES,
) -> Answer:
    """Send a request and read the complete answer.

    Args:
        method: Method such as ``POST``.
        url: URL that begins with http:// or https://.
        seconds: Limit of the whole exchange; `sending_seconds` of the body are added.
        headers: Headers of the request.
        body: Body of the request; empty for none.
        tls: Context that verifies the server; None for the operating system's authorities.
        should_stop: Whether this process is to stop; the exchange is then given up soon.
        max_bytes: Longest body that is accepted.

    Raises:
        ExchangeFailed: The server cannot be reached, breaks off, is too slow or speaks no HTTP.
        AnswerTooLong: The server answers with a longer body than is accepted.
    """
    deadline = Deadline(seconds + sending_seconds(len(body)), should_stop)
    fixed = {"Connection": "close", "Accept-Encoding": "identity"}
    wanted = {**(headers or {}), **fixed}
    if method != "GET":
        wanted["Content-Length"] = str(len(body))
    try:
        with closing(_connect(url, tls, deadline)) as transport:
            connection = _http_over(transport, url, deadline)
            return _ask(connection, method, _target(url), wanted, body, max_bytes)
    except ssl.SSLEOFError as error:
        raise ExchangeFailed("it is away, or the connection broke off") from error
    except ssl.SSLError as error:
        raise ExchangeFailed("one side refuses the other's certificate", tls=True) from error
    except TimeoutError as error:
        raise ExchangeFailed("it is away, or does not come to the end of its answer") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ExchangeFailed("it is away, or the connection broke off") from error


def _connect(url: str, tls: ssl.SSLContext | None, deadline: Deadline) -> socket.socket:
    host, port, secure = _address(url)
    transport = socket.create_connection((host, port), min(CONNECT_SECONDS, deadline.remaining()))
    if not secure:
        return transport
    try:
        return (tls or public_context()).wrap_socket(transport, server_hostname=host)
    except BaseException:
        transport.close()
        raise


def _http_over(
    transport: socket.socket, url: str, deadline: Deadline
) -> http.client.HTTPConnection:
    host, port, secure = _address(url)
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(host, port)
    connection.sock = cast(socket.socket, TimedSocket(transport, deadline))
    return connection


def _address(url: str) -> tuple[str, int, bool]:
    """Return host, port and whether the scheme is https."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    return parts.hostname or "", parts.port or (443 if secure else 80), secure


def _target(url: str) -> str:
    """Return the path and query of a URL as in the request line."""
    parts = urlsplit(url)
    query = f"?{quote(parts.query, safe=_QUERY_CHARACTERS)}" if parts.query else ""
    return (quote(parts.path, safe=_PATH_CHARACTERS) or "/") + query


def _ask(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes | Body,
    max_bytes: int,
) -> Answer:
    connection.putrequest(method, target, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    try:
        connection.endheaders()
        for piece in [body] if isinstance(body, bytes) else body:
            connection.send(piece)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server may have refused the request before it had read all of it
    response = connection.getresponse()
    content = response.read(max_bytes + 1)
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if len(content) > max_bytes:
        raise AnswerTooLong(Answer(response.status, kind, b"", whole=False), max_bytes)
    if response.length:  # bytes announced and not sent
        raise http.client.IncompleteRead(content, response.length)
    return Answer(response.status, kind, content)

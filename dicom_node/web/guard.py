"""Guard of the web pages: accepted host names, security headers, limit of concurrent requests.

A foreign page in a browser of the hospital may map its own host name to the address of this node
(DNS rebinding) and could then read the status as its own. Its requests carry that name in the
header Host, which a page cannot change, so names that are not this node's are refused.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.settings import WebSettings

MAX_REQUESTS = 16
"""Concurrent requests, to which those of health checks do not count."""

HEALTH_PATHS = frozenset({"/healthz", "/livez"})

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every response: the page loads nothing, runs nothing and is in no frame."""

_MISDIRECTED = (
    "The host name of this request is not one of this node: add it to `web.allowed_hosts` in"
    " node.yaml and restart the node.\n"
)
_BUSY = "Too many requests at a time: try again later.\n"


def names_of(web: WebSettings) -> frozenset[str]:
    """Return the accepted host names of the status server; IP addresses are always accepted."""
    own = ("localhost", socket.gethostname(), web.host, *web.allowed_hosts)
    return frozenset(_plain(name) for name in own)


class Guard:
    """ASGI middleware that refuses foreign host names and excess requests, and adds headers.

    Args:
        application: The application behind it.
        names: Accepted host names (`names_of`).
        max_requests: Limit of concurrent requests.
    """

    def __init__(
        self, application: ASGIApp, names: frozenset[str], *, max_requests: int = MAX_REQUESTS
    ) -> None:
        self._application, self._names = application, names
        self._max_requests, self._active = max_requests, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request (ASGI)."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if not self._accepts(Headers(scope=scope).get("host", "")):
            refusal = PlainTextResponse(_MISDIRECTED, status_code=421)
            await refusal(scope, receive, send_guarded)
        elif scope["path"] in HEALTH_PATHS:
            await self._application(scope, receive, send_guarded)
        else:
            await self._limited(scope, receive, send_guarded)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._active >= self._max_requests:
            refusal = PlainTextResponse(_BUSY, status_code=503, headers={"Retry-After": "5"})
            await refusal(scope, receive, send)
            return
        self._active += 1
        try:
            await self._application(scope, receive, send)
        finally:
            self._active -= 1

    def _accepts(self, host: str) -> bool:
        """Whether a header Host is one of this node; browsers never omit it."""
        name = _plain(_without_port(host))
        return not host or name in self._names or _is_address(name)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _plain(name: str) -> str:
    return name.strip().rstrip(".").lower()


def _is_address(name: str) -> bool:
    """Whether a name is an IP address, which DNS rebinding cannot forge."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True

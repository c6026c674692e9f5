"""Guard before the web pages: names that count as this node's, headers, a limit of answers.

A page of somebody else's in a browser of the hospital may give its own host name the address of
this node (DNS rebinding) and would then read the status as its own. Its requests carry that name in
the header Host, which a page cannot change; so a name that nobody gave this node is refused.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.settings import WebSettings

MAX_ANSWERS = 16
"""So many pages are made at a time; health is asked for beside them."""

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
"""Of every answer: the page loads nothing, runs nothing and stands in no frame."""

_MISDIRECTED = (
    "This node is not known by the name that was asked for: add the name to `web.allowed_hosts` in"
    " node.yaml and restart the node.\n"
)
_BUSY = "Too many requests at a time: come again.\n"


def names_of(web: WebSettings) -> frozenset[str]:
    """The host names by which the status server may be called; addresses always count."""
    own = ("localhost", socket.gethostname(), web.host, *web.allowed_hosts)
    return frozenset(_plain(name) for name in own)


class Guard:
    """Refuses foreign names and too many requests, and sets the headers of every answer.

    Args:
        application: What answers.
        names: Host names that count as this node's (`names_of`).
        max_answers: Pages that are made at a time.
    """

    def __init__(
        self, application: ASGIApp, names: frozenset[str], *, max_answers: int = MAX_ANSWERS
    ) -> None:
        self._application, self._names = application, names
        self._max_answers, self._answering = max_answers, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if not self._knows(Headers(scope=scope).get("host", "")):
            refusal = PlainTextResponse(_MISDIRECTED, status_code=421)
            await refusal(scope, receive, send_guarded)
        elif scope["path"] in HEALTH_PATHS:
            await self._application(scope, receive, send_guarded)
        else:
            await self._in_turn(scope, receive, send_guarded)

    async def _in_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._answering >= self._max_answers:
            refusal = PlainTextResponse(_BUSY, status_code=503, headers={"Retry-After": "5"})
            await refusal(scope, receive, send)
            return
        self._answering += 1
        try:
            await self._application(scope, receive, send)
        finally:
            self._answering -= 1

    def _knows(self, host: str) -> bool:
        """Whether a header Host names this node; a browser never leaves it out."""
        name = _plain(_without_port(host))
        return not host or name in self._names or _is_address(name)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _plain(name: str) -> str:
    return name.strip().rstrip(".").lower()


def _is_address(name: str) -> bool:
    """An address is no name that somebody else could have given this node."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True

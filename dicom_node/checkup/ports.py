"""Checks of the DICOM port and the web port, and of the program that holds them."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from dataclasses import dataclass

from dicom_node.checkup.verdict import Checks, CheckWarning
from dicom_node.errors import ConfigurationError, PeerError
from dicom_node.sending.calls import echo
from dicom_node.settings import Settings, WebSettings
from dicom_node.tls import client_context
from dicom_node.web_client import ExchangeFailed, exchange

ANSWER_SECONDS = 5.0
MAX_ANSWER_BYTES = 64 << 10
"""Limit of an answer: another program may hold the port and send anything."""

EVERYWHERE = frozenset({"0.0.0.0", "::"})


@dataclass(frozen=True)
class _ThisNode:
    """The node itself as a peer, to check that it runs."""

    name: str
    ae_title: str
    host: str
    port: int


def checks(settings: Settings) -> Checks:
    """Generate the checks of the DICOM port and, unless it is off, of the web port."""
    yield "port", lambda: _port(settings)
    if (web := settings.web) is not None:
        yield "web port", lambda: _web_port(web)


def _port(settings: Settings) -> str:
    listen = settings.listen
    if _is_free(listen.host, listen.port):
        return f"{listen.host}:{listen.port} is free: the node is not running."
    calling = settings.accept.calling[0] if settings.accept.calling else settings.ae_title
    here = _ThisNode("this node", settings.ae_title, _reachable(listen.host), listen.port)
    try:
        seconds = echo(here, calling_ae=calling, tls=_own_context(settings))
    except PeerError as error:
        raise ConfigurationError(
            f"Port {listen.port} is held, but not by a node that answers as"
            f" {settings.ae_title}: {error} Stop the program that holds it, or change `listen`."
        ) from error
    return f"The node is running and answered in {1000 * seconds:.0f} ms."


def _own_context(settings: Settings) -> ssl.SSLContext | None:
    """A TLS context without host name check: the certificate has the name that peers use."""
    if settings.tls is None or not settings.listen.tls:
        return None
    context = client_context(settings.tls)
    context.check_hostname = False
    return context


def _web_port(web: WebSettings) -> str:
    if _is_free(web.host, web.port):
        return f"{web.host}:{web.port} is free: no node serves its page there now."
    host = _reachable(web.host)
    shown = f"[{host}]" if ":" in host else host
    health = _health(f"http://{shown}:{web.port}/healthz")
    if health is None:
        raise ConfigurationError(
            f"Port {web.port} is held by a program that is not this node: stop it, or change `web`."
        )
    if reasons := health.get("reasons"):
        raise CheckWarning(
            f"The node is running and reports troubles: {' '.join(map(str, reasons))}"
        )
    return "The node is running and reports that it is healthy."


def _health(url: str) -> dict[str, list[object]] | None:
    """The answer of ``/healthz``; None when no node answers there."""
    with contextlib.suppress(ExchangeFailed, ValueError, RecursionError):
        answer = exchange("GET", url, seconds=ANSWER_SECONDS, max_bytes=MAX_ANSWER_BYTES)
        document = json.loads(answer.body)  # 503 has reasons too
        known = isinstance(document, dict) and isinstance(document.get("reasons"), list)
        return document if known and "healthy" in document else None
    return None


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in EVERYWHERE else host

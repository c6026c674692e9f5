"""Web server: its routes, and its thread in the housekeeping process."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from importlib import resources
from typing import cast

import uvicorn
from jinja2 import Environment, Template
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from dicom_node.errors import ConfigurationError
from dicom_node.health import (
    Severity,
    Snapshot,
    find_problems,
    health_document,
    take_snapshot,
)
from dicom_node.health.ages import age_in_words
from dicom_node.health.snapshot import CertificateDays
from dicom_node.heartbeat import HeartbeatAges
from dicom_node.ledger.engine import Ledger, open_when_ready
from dicom_node.logs import get_logger
from dicom_node.settings import Settings, WebSettings
from dicom_node.web.connections import DEFAULT_LIMITS, LimitedConnection, Limits
from dicom_node.web.document import status_document
from dicom_node.web.guard import Guard, names_of
from dicom_node.web.metrics import MEDIA_TYPE, render_metrics

log = get_logger(__name__)

BACKLOG = 64
STOP_SECONDS = 5.0
KEEP_ALIVE_SECONDS = 5


class WebServer:
    """Handlers of the routes; every response takes a new snapshot of the node.

    Args:
        settings: Settings of the node.
        ledger: The ledger, which is only read.
        certificate_days: Function that returns the days left of each certificate.
    """

    def __init__(
        self, settings: Settings, ledger: Ledger, *, certificate_days: CertificateDays
    ) -> None:
        self._settings, self._ledger = settings, ledger
        self._certificate_days = certificate_days
        self._heartbeat_ages = HeartbeatAges()
        self._page = _page()

    def application(self) -> Starlette:
        """Return the application; its handlers run in threads, since the ledger may block."""
        return Starlette(
            routes=[
                Route("/", self._status_page),
                Route("/healthz", self._health),
                Route("/livez", self._life),
                Route("/metrics", self._metrics),
                Route("/api/status", self._status),
            ]
        )

    def _snapshot(self) -> Snapshot:
        return take_snapshot(
            self._settings,
            self._ledger,
            certificate_days=self._certificate_days,
            ages=self._heartbeat_ages,
            now=time.time(),
        )

    def _health(self, _request: Request) -> Response:
        body = health_document(find_problems(self._snapshot()))
        return JSONResponse(body, status_code=200 if body["healthy"] else 503)

    def _life(self, _request: Request) -> Response:
        """Fail only where a restart may help, for liveness probes."""
        body = health_document(find_problems(self._snapshot()))
        code = 503 if body["status"] == Severity.UNHEALTHY else 200
        return JSONResponse(body, status_code=code)

    def _metrics(self, _request: Request) -> Response:
        text = render_metrics(self._settings, self._snapshot())
        return Response(text, media_type=MEDIA_TYPE)

    def _status(self, _request: Request) -> Response:
        document = status_document(self._snapshot(), ae_title=self._settings.ae_title)
        return JSONResponse(document)

    def _status_page(self, _request: Request) -> Response:
        document = status_document(self._snapshot(), ae_title=self._settings.ae_title)
        return HTMLResponse(self._page.render(**document))


@contextmanager
def web_served(
    settings: Settings,
    *,
    certificate_days: CertificateDays,
    should_stop: Callable[[], bool] = lambda: False,
    limits: Limits = DEFAULT_LIMITS,
) -> Iterator[int | None]:
    """Run the web server within the block, if ``web`` is configured.

    Args:
        settings: Address, storage and ledger.
        certificate_days: Function that returns the days left of each certificate.
        should_stop: Whether to stop; polled while the ledger's server is unreachable.
        limits: Limits on connections.

    Yields:
        The TCP port; None when there is no web server.

    Raises:
        ConfigurationError: The address or port is not available, or the ledger cannot be used.
        StorageError: The ledger cannot be opened.
    """
    if settings.web is None:
        yield None
        return
    listener = _listen(settings.web)
    with listener, closing(open_when_ready(settings.database, should_stop)) as ledger:
        web = WebServer(settings, ledger, certificate_days=certificate_days)
        server = _uvicorn(Guard(web.application(), names_of(settings.web)), limits)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="web", daemon=True
        )
        thread.start()
        port = int(listener.getsockname()[1])
        log.info("status served", host=settings.web.host, port=port)
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join(STOP_SECONDS)


def _uvicorn(application: ASGIApp, limits: Limits) -> uvicorn.Server:
    protocol = cast(type[asyncio.Protocol], partial(LimitedConnection, limits=limits))
    return uvicorn.Server(
        uvicorn.Config(
            application,
            http=protocol,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=1,
        )
    )


def _listen(web: WebSettings) -> socket.socket:
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            web.host, web.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        return listener
    except OSError as error:
        if listener is not None:
            listener.close()
        in_use = error.errno == errno.EADDRINUSE
        reason = "is in use" if in_use else f"is not available ({error.strerror})"
        raise ConfigurationError(
            f"Port {web.port} on {web.host} {reason}: the status page is not served; change `web`"
            " in node.yaml, or write `web: null`."
        ) from error


def _page() -> Template:
    text = resources.files("dicom_node.web").joinpath("templates/status.html").read_text("utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["age"] = _age
    return environment.from_string(text)


def _age(seconds: float | None) -> str:
    return "–" if seconds is None else age_in_words(seconds)

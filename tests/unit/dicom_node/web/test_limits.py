"""Limits of the web server: foreign names, half requests, many connections; over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from support.ledger_factory import NodeFixture
from support.peers import free_port

from dicom_node.errors import ConfigurationError
from dicom_node.settings import WebSettings, load_settings
from dicom_node.web import web_served
from dicom_node.web.connections import Limits
from dicom_node.web.guard import Guard, names_of

PATIENT_SECONDS = 60.0
QUICK = Limits(max_connections=8, request_seconds=0.2, connection_seconds=0.5)


@contextlib.contextmanager
def served(folder: Path, limits: Limits | None = None, **web: Any) -> Iterator[int]:
    node = NodeFixture(folder, web={"port": free_port(), **web}, retention={"disk_reserve_gib": 0})
    given = {} if limits is None else {"limits": limits}
    try:
        with web_served(node.settings, certificate_days=lambda: {}, **given) as port:
            assert port is not None
            yield port
    finally:
        node.ledger.close()


def connection(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENT_SECONDS)


def ask(port: int, path: str = "/healthz", host: str | None = None) -> http.client.HTTPResponse:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENT_SECONDS)
    with contextlib.closing(client):
        client.putrequest("GET", path, skip_host=host is not None)
        if host is not None:
            client.putheader("Host", host)
        client.endheaders()
        answer = client.getresponse()
        answer.read()
    return answer


def ends(peer: socket.socket) -> bool:
    """Whether the server closes the connection; what it says before is of no matter."""
    try:
        while peer.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


HALVES = (
    b"",
    b"G",
    b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx",
)
"""Requests that somebody begins and does not end."""


def test_two_hundred_half_requests_leave_healthz_reachable(tmp_path: Path) -> None:
    with served(tmp_path) as port, contextlib.ExitStack() as stack:
        for number in range(200):
            half = stack.enter_context(connection(port))
            with contextlib.suppress(OSError):  # its place may have been given to another
                half.sendall(HALVES[number % len(HALVES)])
        health, page = ask(port, "/healthz"), ask(port, "/")
    assert health.headers["Content-Type"] == "application/json"
    assert page.status == 200


@pytest.mark.parametrize("half", HALVES)
def test_a_request_that_does_not_come_to_its_end_is_given_up(tmp_path: Path, half: bytes) -> None:
    with served(tmp_path, QUICK) as port, connection(port) as peer:
        peer.sendall(half)
        assert ends(peer)


def test_a_request_that_drips_is_given_up(tmp_path: Path) -> None:
    """A byte now and then begins no new wait."""
    with served(tmp_path, QUICK) as port, connection(port) as peer:
        stop = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                while not stop.wait(0.02):
                    peer.sendall(b"G")

        thread = threading.Thread(target=drip)
        thread.start()
        assert ends(peer)
        stop.set()
        thread.join()


def test_a_connection_that_stays_between_requests_is_given_up(tmp_path: Path) -> None:
    with served(tmp_path, QUICK) as port, connection(port) as peer:
        peer.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert peer.recv(5) == b"HTTP/"
        assert ends(peer)


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    with served(tmp_path) as port, connection(port) as peer:
        with contextlib.suppress(OSError):
            for _ in range(100):
                peer.sendall(b"X" * (1 << 16))
        assert ends(peer)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST.:8042", 200),
        (socket.gethostname(), 200),
        ("127.0.0.1:8042", 200),
        ("[::1]:8042", 200),
        ("192.0.2.7", 200),
        ("node.hospital.example:8042", 200),
        ("evil.example", 421),
        ("evil.example:8042", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("[evil.example]", 421),
        ("evil@localhost", 421),
    ],
)
def test_only_the_node_s_own_names_are_answered(tmp_path: Path, host: str, status: int) -> None:
    with served(tmp_path, allowed_hosts=["node.hospital.example"]) as port:
        answer = ask(port, "/api/status", host)
    assert answer.status == status


def test_every_answer_keeps_out_of_frames_and_caches(tmp_path: Path) -> None:
    with served(tmp_path) as port:
        answers = [
            ask(port, "/"),
            ask(port, "/healthz"),
            ask(port, "/nowhere"),
            ask(port, "/", "evil.example"),
        ]
    for answer in answers:
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
    assert [answer.status for answer in answers][2:] == [404, 421]


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(host=st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), min_size=1))
def test_no_foreign_name_is_taken_for_the_node_s(host: str) -> None:
    guard = Guard(Starlette(), frozenset({"localhost"}))
    name = host.strip().lower().partition(":")[0].strip().rstrip(".")
    if guard._accepts(host):
        assert name == "localhost" or not any("g" <= letter <= "z" for letter in name)


async def status_of(guard: Guard, path: str) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer (ASGI)."""
    said: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
    await guard(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in said[0]["headers"]}
    return said[0]["status"], headers


def test_health_is_answered_while_pages_are_full() -> None:
    async def story() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow(_request: object) -> PlainTextResponse:
            begun.set()
            await go_on.wait()
            return PlainTextResponse("page")

        async def health(_request: object) -> PlainTextResponse:
            return PlainTextResponse("well")

        routes = [Route("/", slow), Route("/healthz", health)]
        guard = Guard(Starlette(routes=routes), frozenset(), max_requests=1)
        first = asyncio.create_task(status_of(guard, "/"))
        await begun.wait()
        refused, headers = await status_of(guard, "/")
        assert (refused, headers["retry-after"]) == (503, "5")
        assert (await status_of(guard, "/healthz"))[0] == 200
        go_on.set()
        assert (await first)[0] == 200
        assert (await status_of(guard, "/"))[0] == 200

    asyncio.run(story())


def test_names_of_the_node_are_those_that_somebody_gave_it() -> None:
    web = WebSettings(host="node.example", allowed_hosts=("Status.Example.",))
    assert names_of(web) >= {"localhost", "node.example", "status.example"}


@pytest.mark.parametrize("name", ["https://a.example", "a.example:80", "a/b", "", "*"])
def test_a_name_with_more_than_a_name_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(f"ae_title: A\nweb: {{allowed_hosts: ['{name}']}}\n")
    with pytest.raises(ConfigurationError, match="a host name is written without"):
        load_settings(file)

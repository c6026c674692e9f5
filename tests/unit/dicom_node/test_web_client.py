"""One HTTP exchange: total deadline, largest answer, nothing from the environment."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from dicom_node.deadline import STOP_GRACE_SECONDS, Deadline
from dicom_node.web_client import MAX_ANSWER_BYTES, Answer, ExchangeFailed, exchange

Act = Callable[[socket.socket], None]
BRIEFLY_SECONDS = 0.3


def request_of(client: socket.socket) -> bytes:
    """Everything up to the end of the head, and as much of the body as came with it."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += client.recv(65536)
    return got


@contextmanager
def server(*acts: Act) -> Iterator[tuple[str, list[bytes]]]:
    """A raw server that does with each connection as told; its URL, and what it was asked."""
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for act in acts:
            client, _ = listener.accept()
            with closing(client), suppress(OSError):
                asked.append(request_of(client))
                act(client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        listener.close()
        thread.join(10)
        assert not thread.is_alive()


def answer(head: bytes, body: bytes = b"") -> Act:
    return lambda client: client.sendall(b"HTTP/1.1 " + head + b"\r\n\r\n" + body)


def drip(begin: bytes) -> Act:
    """Begin, then send a letter whenever the client has had time to read one, for ever."""

    def act(client: socket.socket) -> None:
        client.sendall(begin)
        client.settimeout(0.02)
        while True:
            with suppress(TimeoutError):
                if client.recv(1) == b"":
                    return
            client.sendall(b"a")

    return act


def flood(begin: bytes) -> Act:
    def act(client: socket.socket) -> None:
        client.sendall(begin)
        while True:
            client.sendall(b"10000\r\n" + bytes(1 << 16) + b"\r\n")

    return act


def test_an_answer_has_status_media_type_and_body() -> None:
    head = b"200 OK\r\nContent-Type: Application/DICOM+json; charset=utf-8\r\nContent-Length: 2"
    with server(answer(head, b"[]")) as (url, asked):
        got = exchange("POST", f"{url}/a b?c=d", seconds=10, headers={"X-Y": "z"}, body=b"hello")
    assert got == Answer(200, "application/dicom+json", b"[]")
    head = asked[0].partition(b"\r\n\r\n")[0]
    assert head.startswith(b"POST /a%20b?c=d HTTP/1.1\r\n")
    assert b"Content-Length: 5" in head
    assert b"X-Y: z" in head
    assert b"Accept-Encoding: identity" in head


@pytest.mark.parametrize(
    "begin",
    [
        b"HTTP/1.1 200 OK\r\nX-A: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["head", "body", "chunk length", "body without a length"],
)
def test_an_answer_that_drips_is_given_up_in_all(begin: bytes) -> None:
    with server(drip(begin)) as (url, _), pytest.raises(ExchangeFailed, match="end of its answer"):
        exchange("GET", url, seconds=BRIEFLY_SECONDS)


def test_an_endless_answer_is_given_up_at_its_largest_size() -> None:
    with (
        server(flood(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")) as (url, _),
        pytest.raises(ExchangeFailed, match=f"longer than {MAX_ANSWER_BYTES} bytes"),
    ):
        exchange("GET", url, seconds=30)


def test_a_compressed_answer_does_not_swell() -> None:
    packed = gzip.compress(bytes(1 << 24))
    head = b"200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d" % len(packed)
    with server(answer(head, packed)) as (url, _):
        assert exchange("GET", url, seconds=30).body == packed


@pytest.mark.parametrize(
    "act",
    [
        lambda client: None,
        lambda client: client.sendall(b"\x04\x00\x00\x00"),
        answer(b"200 OK\r\nContent-Length: 1000", b"{"),
        answer(b"200 OK\r\nTransfer-Encoding: chunked", b"5\r\nab"),
        answer(b"200 OK\r\n" + b"X: " + b"y" * 70_000),
        answer(b"200 OK" + b"\r\nX: y" * 200),
    ],
    ids=["hangs up", "no HTTP", "cut body", "cut chunk", "long header", "many headers"],
)
def test_what_is_no_whole_answer_is_none(act: Act) -> None:
    with server(act) as (url, _), pytest.raises(ExchangeFailed) as error:
        exchange("GET", url, seconds=30)
    assert error.value.transient
    assert not error.value.tls


def test_a_redirection_is_an_answer_like_any_other() -> None:
    head = b"307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0"
    with server(answer(head)) as (url, _):
        assert exchange("POST", url, seconds=30).status == 307


def test_the_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with server(answer(b"204 No Content")) as (url, _):
        assert exchange("GET", url, seconds=30).status == 204


def test_a_refusal_before_the_whole_body_was_taken_is_read() -> None:
    act = answer(b"413 Too Large\r\nContent-Length: 0")
    with server(act) as (url, _), suppress(ExchangeFailed):  # a reset may take the answer with it
        assert exchange("POST", url, seconds=30, body=bytes(1 << 24)).status == 413


def test_a_stop_brings_the_end_near() -> None:
    now, stop = [0.0], [False]
    deadline = Deadline(120.0, lambda: stop[0], lambda: now[0])
    assert deadline.remaining() == 120.0
    stop[0], now[0] = True, 10.0
    assert deadline.remaining() == STOP_GRACE_SECONDS
    now[0] = 12.0
    assert deadline.remaining() == STOP_GRACE_SECONDS - 2.0
    now[0] = 10.0 + STOP_GRACE_SECONDS
    with pytest.raises(TimeoutError):
        deadline.wait_seconds()


def test_a_stop_does_not_make_an_exchange_longer() -> None:
    deadline = Deadline(1.0, lambda: True, lambda: 0.0)
    assert deadline.remaining() == 1.0

"""Mail servers and web hooks that hang, answer slowly or never end: bounded time and memory."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.collectors import mail_collector, web_collector
from support.ledger_factory import NodeFixture

from dicom_node.errors import PeerError
from dicom_node.housekeeping.background import in_background
from dicom_node.housekeeping.mail import Mail
from dicom_node.housekeeping.message import Channel, FailureMessage
from dicom_node.housekeeping.webhook import Webhook
from dicom_node.settings import EmailSettings, WebhookSettings

PATIENT_SECONDS = 60.0
SHORT_SECONDS = 0.5
MANY_SECONDS = 300.0
SMALL_BYTES = 16 << 20

Behaviour = Callable[[socket.socket, threading.Event], None]


def say(*beginning: bytes, drop: bytes = b"x") -> Behaviour:
    """Say this, then go on with a byte now and then."""

    def behave(peer: socket.socket, over: threading.Event) -> None:
        peer.sendall(b"".join(beginning))
        while not over.wait(0.05):
            peer.sendall(drop)

    return behave


def flood(beginning: bytes, line: bytes) -> Behaviour:
    """Say this, then never stop talking."""

    def behave(peer: socket.socket, over: threading.Event) -> None:
        peer.sendall(beginning)
        lines = line * (1 + (1 << 16) // len(line))
        while not over.is_set():
            peer.sendall(lines)

    return behave


@contextlib.contextmanager
def server(behave: Behaviour) -> Iterator[int]:
    """A server that treats everybody like this."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def talk(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            behave(peer, over)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                threads.append(threading.Thread(target=talk, args=(peer,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for thread in threads:
                thread.join()


def mail(port: int, seconds: float, *, starttls: bool = False) -> Mail:
    return Mail(
        EmailSettings(
            host="127.0.0.1",
            port=port,
            sender="node@site.example",
            recipients=("pacs@site.example",),
            starttls=starttls,
        ),
        seconds=seconds,
    )


def hook(port: int, seconds: float, address: str = "127.0.0.1") -> Webhook:
    return Webhook(WebhookSettings(url=f"http://{address}:{port}/hook"), seconds=seconds)


@pytest.fixture
def news(tmp_path: Path) -> Iterator[FailureMessage]:
    node = NodeFixture(tmp_path)
    yield FailureMessage("DENOISE", "host", [node.job()])
    node.ledger.close()


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "behave",
    [
        say(drop=b""),
        say(drop=b"H"),
        say(OK, b"X: "),
        say(OK, b"Content-Length: 1000\r\n\r\n"),
        say(OK, b"Transfer-Encoding: chunked\r\n\r\n", drop=b"1\r\nx\r\n"),
        say(*itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n", 50), drop=b"H"),
    ],
)
def test_a_web_hook_that_does_not_end_is_given_up(news: FailureMessage, behave: Behaviour) -> None:
    with server(behave) as port, pytest.raises(PeerError, match="did not accept a message"):
        hook(port, SHORT_SECONDS).send(news)


@pytest.mark.parametrize(
    "behave",
    [
        say(drop=b""),
        say(drop=b"2"),
        say(b"220-a\r\n", drop=b"220-b\r\n"),
        say(b"220 a\r\n", drop=b""),
        say(b"220 a\r\n250 b\r\n", drop=b"2"),
        say(b"220 a\r\n250 b\r\n250 c\r\n250 d\r\n354 e\r\n", drop=b"2"),
    ],
)
def test_a_mail_server_that_does_not_end_is_given_up(
    news: FailureMessage, behave: Behaviour
) -> None:
    with server(behave) as port, pytest.raises(PeerError, match="did not accept a mail"):
        mail(port, SHORT_SECONDS).send(news)


def test_a_mail_server_that_hangs_in_the_tls_handshake_is_given_up(news: FailureMessage) -> None:
    behave = say(b"220 a\r\n", b"250-b\r\n250 STARTTLS\r\n", b"220 go on\r\n", drop=b"\x16")
    with server(behave) as port, pytest.raises(PeerError, match="did not accept a mail"):
        mail(port, SHORT_SECONDS, starttls=True).send(news)


@pytest.mark.parametrize(
    ("make", "behave"),
    [
        (hook, flood(OK + b"\r\n", b"x")),
        (
            hook,
            flood(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"ffff\r\n" + b"x" * 65535 + b"\r\n"),
        ),
        (hook, flood(OK, b"X: y\r\n")),
        (hook, flood(OK + b"X: ", b"y")),
        (mail, flood(b"", b"220-a\r\n")),
        (mail, flood(b"220 a\r\n", b"250-b\r\n")),
        (mail, flood(b"220 ", b"a")),
    ],
)
def test_an_endless_answer_takes_little_memory(
    news: FailureMessage, make: Callable[[int, float], Channel], behave: Behaviour
) -> None:
    with server(behave) as port:
        tracemalloc.start()
        try:
            with pytest.raises(PeerError):
                make(port, MANY_SECONDS).send(news)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < SMALL_BYTES


def test_news_get_through_to_servers_that_answer(news: FailureMessage) -> None:
    with mail_collector() as mails, web_collector() as hooks:
        mail(mails.port, PATIENT_SECONDS).send(news)
        hook(hooks.port, PATIENT_SECONDS, "user:pass%40word@127.0.0.1").send(news)
    assert len(mails.items) == 1
    assert hooks.items[0].startswith(b"Basic dXNlcjpwYXNzQHdvcmQ={")  # user:pass@word


def test_a_sweep_that_hangs_holds_up_nobody() -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()
    times: list[float] = []

    def notify(now: float) -> None:
        times.append(now)
        begun.release()
        go_on.wait(PATIENT_SECONDS)
        raise RuntimeError("what goes wrong is told, and the next one begins all the same")

    sweep = in_background(notify)
    assert sweep.__name__ == "notify"
    sweep(1.0)
    assert begun.acquire(timeout=PATIENT_SECONDS)
    sweep(2.0)
    go_on.set()
    while len(times) < 2:
        sweep(3.0)
    assert times == [1.0, 3.0]

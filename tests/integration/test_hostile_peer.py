"""The sender against a peer that says everything wrongly: each image has an outcome in time."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ct_factory import make_series
from wire import (
    ABORT,
    APPLICATION_CONTEXT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    COMMAND,
    EXPLICIT,
    LAST,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    command,
    item,
    p_data,
    pdu,
    short,
    uid,
    user_information,
)

from dicom_node.errors import PeerError
from dicom_node.net import association
from dicom_node.net.sender import send_files
from dicom_node.settings import PeerSettings

NOTHING = b"\0\0\0\0"
MUTATIONS = 2000 if os.environ.get("TORTURE") else 80
SILENCE_SECONDS = 0.2


def accept(*contexts: tuple[int, int, bytes], largest: int = 16384) -> bytes:
    """An association accepted, with (identifier, result, transfer syntax) of each context."""
    fixed = struct.pack(">HH16s16s32x", 1, 0, b"PACS".ljust(16), b"DENOISE".ljust(16))
    answers = b"".join(
        item(0x21, bytes((number, 0, result, 0)) + item(0x40, syntax))
        for number, result, syntax in contexts or ((1, 0, EXPLICIT),)
    )
    information = user_information(largest)
    return pdu(ASSOCIATE_AC, fixed + item(0x10, APPLICATION_CONTEXT) + answers + information)


def stored(message: int, *, status: int = 0, field: int = 0x8001, number: int = 1) -> bytes:
    """The answer to a C-STORE."""
    encoded = command(
        uid(0x0002, b"1.2.840.10008.5.1.4.1.1.2"),
        short(0x0100, field),
        short(0x0120, message),
        short(0x0800, 0x0101),
        short(0x0900, status),
        uid(0x1000, b"1.2.3"),
    )
    return p_data(encoded, COMMAND | LAST, number=number)


class Impostor:
    """Answers every turn of the sender with the next reply of the script, then hangs up."""

    def __init__(self) -> None:
        self.script: list[bytes] = []
        self.silent = False
        self.calls = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._released = threading.Event()

    @property
    def peer(self) -> PeerSettings:
        port = self._socket.getsockname()[1]
        return PeerSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)

    @contextlib.contextmanager
    def serving(self) -> Iterator[Impostor]:
        self._thread.start()
        try:
            yield self
        finally:
            self._released.set()
            self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.calls += 1
            with connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        for reply in self.script:
            self._hear(connection)
            connection.sendall(reply)
        while self.silent and connection.recv(65536):
            pass

    def _hear(self, connection: socket.socket) -> None:
        """Everything up to the end of a request, or of what is said instead of one."""
        while True:
            header = self._exactly(connection, 6)
            kind, length = struct.unpack(">BxI", header)
            body = self._exactly(connection, length)
            if kind != P_DATA or body[5] & (COMMAND | LAST) == LAST:
                return

    def _exactly(self, connection: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if not (part := connection.recv(size - len(data))):
                raise OSError
            data += part
        return data


@pytest.fixture
def impostor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Impostor]:
    for name in ("ANSWER_SECONDS", "NEGOTIATION_SECONDS", "RELEASE_SECONDS"):
        monkeypatch.setattr(association, name, SILENCE_SECONDS)
    with Impostor().serving() as impostor:
        yield impostor


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_series(tmp_path_factory.mktemp("scan"), slices=2)


def statuses(impostor: Impostor, files: list[Path]) -> list[int | None]:
    results = send_files(impostor.peer, files, calling_ae="DENOISE")
    return [result.status for result in results]


def test_the_script_is_right_to_begin_with(impostor: Impostor, files: list[Path]) -> None:
    impostor.script = [accept(), stored(1), stored(2), pdu(RELEASE_RP, NOTHING)]
    assert statuses(impostor, files) == [0, 0]
    assert impostor.calls == 1


def test_an_answer_in_pieces_and_in_two_fragments(impostor: Impostor, files: list[Path]) -> None:
    answer = stored(1)[12:]
    pieces = p_data(answer[:7], COMMAND) + p_data(answer[7:], COMMAND | LAST)
    impostor.script = [accept(), pieces, stored(2), pdu(RELEASE_RP, NOTHING)]
    assert statuses(impostor, files) == [0, 0]


def test_small_pdus_are_kept_to(impostor: Impostor, files: list[Path]) -> None:
    impostor.script = [accept(largest=100), stored(1), stored(2), pdu(RELEASE_RP, NOTHING)]
    assert statuses(impostor, files) == [0, 0]


@pytest.mark.parametrize(
    "reply",
    [
        pdu(P_DATA, b"", length=0xFFFFFFFF),
        pdu(P_DATA, b"\0" * 100, length=1000),
        pdu(99, b"hello"),
        pdu(ABORT, NOTHING),
        pdu(RELEASE_RQ, NOTHING),
        pdu(ASSOCIATE_RJ, b"\0\1\1\1"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        p_data(stored(1)[12:], COMMAND | LAST, length=1),
        p_data(stored(1)[12:], COMMAND | LAST, length=0xFFFFFFFF),
        p_data(b"", COMMAND | LAST),
        p_data(b"\0" * 7, COMMAND | LAST),
        p_data(b"pixels", LAST),
        stored(7),
        stored(1, number=9),
        stored(1, field=0x8030),
        stored(1, field=0x0001),
        b"",
    ],
)
def test_nonsense_for_an_answer_is_no_answer(
    impostor: Impostor, files: list[Path], reply: bytes
) -> None:
    impostor.script, impostor.silent = [accept(), reply], True
    assert statuses(impostor, files) == [None, None]


@pytest.mark.parametrize(
    ("reply", "words", "transient"),
    [
        (pdu(ASSOCIATE_RJ, b"\0\1\1\7"), "rejected the association", False),
        (pdu(ASSOCIATE_RJ, b"\0\2\3\2"), "rejected the association", True),
        (pdu(ASSOCIATE_RJ, b"\0\7\7\7"), "pacs", True),
        (pdu(ASSOCIATE_RJ, b""), "nonsense", True),
        (pdu(ASSOCIATE_AC, b""), "nonsense", True),
        (pdu(ASSOCIATE_AC, b"\xff" * 300), "nonsense", True),
        (pdu(ABORT, NOTHING), "broke off", True),
        (pdu(P_DATA, b"", length=0xFFFFFFFF), "not DICOM", True),
        (accept((1, 3, EXPLICIT)), "accepts none of", False),
        (accept((5, 0, EXPLICIT)), "accepts none of", False),
        (accept((1, 0, b"1.2.3")), "accepts none of", False),
        (b"", "gave no answer", True),
    ],
)
def test_nonsense_for_an_acceptance_is_one_sentence(
    impostor: Impostor, files: list[Path], reply: bytes, words: str, transient: bool
) -> None:
    impostor.script, impostor.silent = [reply], True
    with pytest.raises(PeerError, match=words) as error:
        statuses(impostor, files)
    assert error.value.transient is transient
    assert impostor.calls == 1


@pytest.mark.parametrize("tail", [b"", b"\x06", pdu(RELEASE_RQ, NOTHING), pdu(P_DATA, b"\0" * 9)])
def test_a_release_that_is_not_answered_costs_nothing(
    impostor: Impostor, files: list[Path], tail: bytes
) -> None:
    impostor.script, impostor.silent = [accept(), stored(1), stored(2), tail], True
    assert statuses(impostor, files) == [0, 0]


def test_whatever_comes_each_image_has_an_outcome(impostor: Impostor, files: list[Path]) -> None:
    """Random damage to what a peer says never ends in anything but a status or a `PeerError`."""
    sound = [accept(), stored(1), stored(2), pdu(RELEASE_RP, NOTHING)]
    threads = threading.active_count()
    told: list[str] = []
    for seed in range(MUTATIONS):
        impostor.script = damaged(sound, random.Random(seed))
        try:
            told += ["stored" if s == 0 else "not" for s in statuses(impostor, files)]
        except PeerError:
            told.append("refused")
    assert {"stored", "not", "refused"} == set(told)
    assert threading.active_count() == threads


def damaged(script: list[bytes], rng: random.Random) -> list[bytes]:
    """One reply cut, flipped, prolonged, repeated or left out."""
    at = rng.randrange(len(script))
    reply = bytearray(script[at])
    kind = rng.randrange(5)
    if kind == 0:
        reply = reply[: rng.randrange(len(reply))]
    elif kind == 1:
        for _ in range(rng.randint(1, 4)):
            reply[rng.randrange(len(reply))] = rng.randrange(256)
    elif kind == 2:
        reply[rng.randrange(len(reply)) :] = rng.randbytes(rng.randint(1, 400))
    elif kind == 3:
        reply *= rng.randint(2, 5)
    else:
        reply.clear()
    return [*script[:at], bytes(reply), *script[at + 1 :]]

"""The sender against a peer whose every answer is wrong: each image has an outcome in time."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ct_factory import make_series
from support.raw_dicom import (
    ABORT,
    ASSOCIATE_AC,
    ASSOCIATE_RJ,
    COMMAND,
    EXPLICIT,
    LAST,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    associate_ac,
    p_data,
    pdu,
    store_response,
)
from support.raw_server import RawServer, read_pdu

from dicom_node import deadline
from dicom_node.dimse import association
from dicom_node.errors import PeerError
from dicom_node.sending.calls import send_files
from dicom_node.sending.outcome import SendResult
from dicom_node.sending.storage import StorageSession
from dicom_node.settings import PeerSettings

NOTHING = b"\0\0\0\0"
MUTATIONS = 2000 if os.environ.get("TORTURE") else 80
SILENCE_SECONDS = 0.2


MR = b"1.2.840.10008.5.1.4.1.1.4"


class Impostor(RawServer):
    """Answers every turn of the sender with the next reply of the script, then hangs up."""

    def __init__(self) -> None:
        super().__init__()
        self.script: list[bytes] = []
        self.silent = False
        self.sips = False
        self.heard = 0
        self.calls = 0

    @property
    def peer(self) -> PeerSettings:
        return PeerSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=self.port)

    def converse(self, connection: socket.socket) -> None:
        self.calls += 1
        for reply in self.script:
            self._hear(connection)
            connection.sendall(reply)
        while self.silent and (data := connection.recv(65536)):
            self.heard += len(data)
        while self.sips and connection.recv(1) and not self.ended.wait(0.05):
            pass

    def _hear(self, connection: socket.socket) -> None:
        """Everything up to the end of a request, or of what is said instead of one."""
        while True:
            kind, body = read_pdu(connection)
            if kind != P_DATA or body[5] & (COMMAND | LAST) == LAST:
                return


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
    impostor.script = [
        associate_ac(),
        store_response(1),
        store_response(2),
        pdu(RELEASE_RP, NOTHING),
    ]
    assert statuses(impostor, files) == [0, 0]
    assert impostor.calls == 1


def test_an_answer_in_pieces_and_in_two_fragments(impostor: Impostor, files: list[Path]) -> None:
    answer = store_response(1)[12:]
    pieces = p_data(answer[:7], COMMAND) + p_data(answer[7:], COMMAND | LAST)
    impostor.script = [associate_ac(), pieces, store_response(2), pdu(RELEASE_RP, NOTHING)]
    assert statuses(impostor, files) == [0, 0]


def test_small_pdus_are_kept_to(impostor: Impostor, files: list[Path]) -> None:
    impostor.script = [
        associate_ac(largest=100),
        store_response(1),
        store_response(2),
        pdu(RELEASE_RP, NOTHING),
    ]
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
        p_data(store_response(1)[12:], COMMAND | LAST, length=1),
        p_data(store_response(1)[12:], COMMAND | LAST, length=0xFFFFFFFF),
        p_data(b"", COMMAND | LAST),
        p_data(b"\0" * 7, COMMAND | LAST),
        p_data(b"pixels", LAST),
        store_response(7),
        store_response(1, number=9),
        store_response(1, field=0x8030),
        store_response(1, field=0x0001),
        b"",
    ],
)
def test_nonsense_for_an_answer_is_no_answer(
    impostor: Impostor, files: list[Path], reply: bytes
) -> None:
    impostor.script, impostor.silent = [associate_ac(), reply], True
    assert statuses(impostor, files) == [None, None]


@pytest.mark.parametrize(
    ("reply", "words", "transient"),
    [
        (pdu(ASSOCIATE_RJ, b"\0\1\1\7"), "rejected the association", False),
        (pdu(ASSOCIATE_RJ, b"\0\2\3\2"), "rejected the association", True),
        (pdu(ASSOCIATE_RJ, b"\0\7\7\7"), "pacs", True),
        (pdu(ASSOCIATE_RJ, b""), "no valid answer", True),
        (pdu(ASSOCIATE_AC, b""), "no valid answer", True),
        (pdu(ASSOCIATE_AC, b"\xff" * 300), "no valid answer", True),
        (pdu(ABORT, NOTHING), "aborted the association", True),
        (pdu(P_DATA, b"", length=0xFFFFFFFF), "not DICOM", True),
        (associate_ac((1, 3, EXPLICIT)), "accepts none of", False),
        (associate_ac((5, 0, EXPLICIT)), "accepts none of", False),
        (associate_ac((1, 0, b"1.2.3")), "accepts none of", False),
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


def results(impostor: Impostor, files: list[Path]) -> list[SendResult]:
    return send_files(impostor.peer, files, calling_ae="DENOISE")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"instance": b"1.2.3"}, "answered for another SOP instance"),
        ({"sop_class": MR}, "answered for another SOP class"),
    ],
)
def test_an_answer_that_names_another_image_stores_none(
    impostor: Impostor, files: list[Path], wrong: dict[str, bytes], words: str
) -> None:
    impostor.script = [associate_ac(), store_response(1, **wrong)]
    told = results(impostor, files)
    assert [item.status for item in told] == [None, None]
    assert not any(item.ok or item.away for item in told)
    assert words in told[0].sentence


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"\0\0\0\0", "A-ABORT, source 0: service user"),
        (b"\0\0\2\2", "A-ABORT, source 2: service provider, reason 2: unexpected PDU"),
        (b"\0\0\2\1", "A-ABORT, source 2: service provider, reason 1: unrecognized PDU"),
    ],
)
def test_an_abort_is_reported_with_the_peers_reason(
    impostor: Impostor, files: list[Path], said: bytes, words: str
) -> None:
    impostor.script = [associate_ac(), pdu(ABORT, said)]
    told = results(impostor, files)
    assert [item.status for item in told] == [None, None]
    assert all(item.transient and not item.away for item in told)  # it is there, and breaks off
    assert words in told[0].sentence


def test_a_silent_peer_counts_as_unreachable(impostor: Impostor, files: list[Path]) -> None:
    impostor.script, impostor.silent = [associate_ac()], True
    told = results(impostor, files)
    assert all(item.away for item in told)
    assert "gave no answer in time" in told[0].sentence


def test_a_peer_that_takes_too_little_at_a_time_is_given_up(
    impostor: Impostor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "MIN_BYTES_PER_SECOND", 1 << 30)
    impostor.script, impostor.sips = [associate_ac()], True
    impostor.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    told = results(impostor, make_series(tmp_path, slices=1, size=2048))
    assert [(item.status, item.away) for item in told] == [(None, True)]
    assert "takes nothing more" in told[0].sentence


def test_a_silent_peer_does_not_delay_a_stop(
    impostor: Impostor, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(association, "ANSWER_SECONDS", 600.0)
    monkeypatch.setattr(deadline, "STOP_GRACE_SECONDS", 0.1)
    impostor.script, impostor.silent = [associate_ac()], True
    with StorageSession(impostor.peer, files, calling_ae="DENOISE") as session:
        assert list(session.send(lambda: impostor.heard > 1)) == []


@pytest.mark.parametrize("tail", [b"", b"\x06", pdu(RELEASE_RQ, NOTHING), pdu(P_DATA, b"\0" * 9)])
def test_a_release_that_is_not_answered_costs_nothing(
    impostor: Impostor, files: list[Path], tail: bytes
) -> None:
    impostor.script, impostor.silent = (
        [associate_ac(), store_response(1), store_response(2), tail],
        True,
    )
    assert statuses(impostor, files) == [0, 0]


def test_each_image_has_an_outcome_for_any_answer(impostor: Impostor, files: list[Path]) -> None:
    """Random damage to what a peer says never ends in anything but a status or a `PeerError`."""
    sound = [associate_ac(), store_response(1), store_response(2), pdu(RELEASE_RP, NOTHING)]
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

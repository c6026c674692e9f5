"""Thousands of associations: bad requests, empty PDUs, half handshakes, idle associations.

The receiver takes a legitimate sender's images meanwhile, keeps its memory, and its log stays
short. ``make torture`` knocks sixty thousand times, ``make test`` some hundreds of times;
``HOSTILE_KNOCKS`` says how often.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ct_factory import make_series
from support.malformed_associations import KINDS, malformed_association
from support.peers import wait_until
from support.raw_dicom import Answers, RawConnection, associate_rq, raw_connection
from support.receiver_under_attack import (
    SEED,
    TORTURE,
    Target,
    check_flat,
    halves,
    in_parallel,
    receiver_under_attack,
    staying_unharmed,
)

from dicom_node.sending.calls import send_files
from dicom_node.settings import PeerSettings

KNOCK_COUNT = int(os.environ.get("HOSTILE_KNOCKS", "60000" if TORTURE else "400"))
HALF_OPEN = 300
MAX_MEMORY_MIB = 250.0
MAX_LOG_BYTES_PER_KNOCK = 40.0
"""A line has some 300 bytes."""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    home = tmp_path_factory.mktemp("knocked")
    with receiver_under_attack(home, max_associations=8, max_associations_per_peer=3) as target:
        yield target


@pytest.fixture
def unharmed(target: Target) -> Iterator[Target]:
    with staying_unharmed(target):
        yield target


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_series(tmp_path_factory.mktemp("scan"), slices=2, size=24)


def stores(target: Target, files: list[Path]) -> bool:
    """Whether a legitimate sender gets its images in, within the tries that any sender makes."""
    peer = PeerSettings(name="node", ae_title="DENOISE", host="127.0.0.1", port=target.port)
    return [item.status for item in send_files(peer, files, calling_ae="SCANNER")] == [0, 0]


def said(port: int, pieces: list[bytes]) -> Answers:
    with raw_connection(port) as opened:
        for piece in pieces[:-1]:
            opened.send(piece)
            opened.next_kind()
        opened.send(pieces[-1])
        return opened.hang_up()


def test_knocks_of_every_kind(unharmed: Target, files: list[Path]) -> None:
    def attack(case: int) -> Answers:
        rng = random.Random(f"{SEED} malformed_association {case}")
        pieces = list(malformed_association(rng) if case >= len(KINDS) else KINDS[case](rng))
        return said(unharmed.port, pieces)

    begun, log = len(unharmed.kept), len(unharmed.process.output)
    warming, steady = halves(KNOCK_COUNT)
    in_parallel(warming, attack)
    before = unharmed.resting_kb()
    in_parallel(steady, attack)
    check_flat(unharmed, before, "knocks")
    assert unharmed.status("VmHWM") / 1024 < MAX_MEMORY_MIB
    assert len(unharmed.kept) == begun
    grown = len(unharmed.process.output) - log
    assert grown < 30_000 + MAX_LOG_BYTES_PER_KNOCK * KNOCK_COUNT
    assert stores(unharmed, files)


def test_half_open_connections_do_not_block_others(unharmed: Target, files: list[Path]) -> None:
    half = [socket.create_connection(("127.0.0.1", unharmed.port), 20.0) for _ in range(HALF_OPEN)]
    try:
        assert stores(unharmed, files)
    finally:
        for one in half:
            one.close()


def test_idle_associations_do_not_block_others(unharmed: Target, files: list[Path]) -> None:
    """Eight titles take every place that one address can have; a scanner behind it comes late."""
    held = [RawConnection(unharmed.port) for _ in range(8)]
    try:
        for number, opened in enumerate(held):
            opened.send(associate_rq(calling=b"HOLD%d" % number))
            opened.next_kind()

        def admitted() -> bool:
            with raw_connection(unharmed.port) as opened:
                opened.send(associate_rq(calling=b"SCANNER"))
                return opened.next_kind() == 2

        wait_until("a place is given up", admitted)
    finally:
        for opened in held:
            opened.close()
    assert stores(unharmed, files)

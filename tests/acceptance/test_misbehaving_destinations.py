"""Destinations that answer slowly or wrongly, disconnect after success or briefly lack resources.

``make test`` tries each way once and one short mixed day; ``make torture`` a long one.
``TORTURE_SEED`` says which.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest
from support.misbehaving_destinations import ASSOCIATIONS, REQUESTS, StorageScp, StowServer
from support.part_processes import random_seed
from support.sender_under_test import PATIENT, SenderUnderTest

from dicom_node.dimse import association
from dicom_node.ledger.states import JobState
from dicom_node.sending import stow
from dicom_node.sending.outgoing import describe_file

BRIEFLY_SECONDS = 0.4
TIMES = 3
"""A way is kept up for so many associations or requests before the destination behaves."""

LONG = os.environ.get("TORTURE") == "1"
DAY = 150 if LONG else 12


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (association, "ANSWER_SECONDS"),
        (association, "NEGOTIATION_SECONDS"),
        (association, "RELEASE_SECONDS"),
        (stow, "ANSWER_SECONDS"),
    ):
        monkeypatch.setattr(module, name, BRIEFLY_SECONDS)


def complaints(line: SenderUnderTest, stored: dict[str, list[bytes]]) -> list[str]:
    """What was lost, doubled (another instance) or mixed up (other bytes) at a destination."""
    lost = [f"{uid} lost" for uid in line.files.keys() - stored.keys()]
    invented = [f"{uid} invented" for uid in stored.keys() - line.files.keys()]
    mixed = [
        f"{uid} mixed up"
        for uid, copies in stored.items()
        for copy in copies
        if uid in line.files and not _is(copy, line.files[uid])
    ]
    return lost + invented + mixed


def _is(copy: bytes, path: Path) -> bool:
    whole = path.read_bytes()
    return copy in (whole, whole[describe_file(path).offset :])


@pytest.mark.parametrize("way", ASSOCIATIONS)
def test_a_storage_scp_that_misbehaves_for_a_while_gets_everything_once(
    tmp_path: Path, way: str
) -> None:
    with StorageScp(*[way] * TIMES).serving() as pacs:
        line = SenderUnderTest(tmp_path, [pacs.peer()])
        line.send_all()
        assert complaints(line, pacs.stored) == []
        line.node.ledger.close()


@pytest.mark.parametrize("way", REQUESTS)
def test_a_web_server_that_misbehaves_for_a_while_gets_everything_once(
    tmp_path: Path, way: str
) -> None:
    with StowServer(*[way] * TIMES).serving() as pacs:
        line = SenderUnderTest(tmp_path, [pacs.peer()])
        line.send_all()
        assert complaints(line, pacs.stored) == []
        line.node.ledger.close()


LASTING = {
    "aborts before the answer": "A-ABORT",
    "answers for another image": "another SOP instance",
    "answers for another class": "another SOP class",
}


@pytest.mark.parametrize("way", LASTING)
def test_a_storage_scp_that_never_behaves_is_told_in_its_own_words(
    tmp_path: Path, way: str
) -> None:
    with StorageScp(*[way] * 1000).serving() as pacs:
        line = SenderUnderTest(tmp_path, [pacs.peer()], retry={**PATIENT, "attempts": 2})
        for _ in range(8):
            line.sender.send_once(lambda: False)
            line.now += 400.0
        assert line.states() == {JobState.FAILED}
        assert all(LASTING[way] in reason for reason in line.reasons())
        assert all("after 2 attempts" in reason for reason in line.reasons())
        assert pacs.stored == {}
        line.node.ledger.close()


def test_a_day_of_all_ways_loses_doubles_and_mixes_up_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random_seed()
    rng = random.Random(seed)
    with capsys.disabled():
        sys.stdout.write(f"\nTORTURE_SEED={seed}: {DAY} associations and requests\n")
    scp = StorageScp(*(rng.choice([*ASSOCIATIONS, "behaves"]) for _ in range(DAY)))
    web = StowServer(*(rng.choice([*REQUESTS, "behaves"]) for _ in range(DAY)))
    with scp.serving(), web.serving():
        line = SenderUnderTest(tmp_path, [scp.peer(), web.peer("web")])
        line.send_all()
        assert complaints(line, scp.stored) == []
        assert complaints(line, web.stored) == []
        line.node.ledger.close()

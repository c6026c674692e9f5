"""Operators' commands in the audit trail: user, host, command, object and outcome."""

from __future__ import annotations

import base64
import hashlib
import os
import pwd
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from support.audit_schema import faults
from support.ledger_factory import NodeFixture
from support.peers import Ports, node_settings, write_node

from dicom_node.audit import person
from dicom_node.audit.destinations import FileDestination
from dicom_node.audit.message import (
    APPLICATION_ACTIVITY,
    Action,
    Message,
    Participant,
)
from dicom_node.cli import main
from dicom_node.processes.parts import run_part
from dicom_node.settings import load_settings

Call = Callable[..., int]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rules = tmp_path / "node" / "rules.yaml"
    rules.parent.mkdir()
    rules.write_text("rules: []\n")
    return write_node(
        tmp_path / "node", node_settings(Ports(), audit={"file": "audit.log"}, rules="rules.yaml")
    )


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, config: Path) -> Call:
    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["dicom-node", *words, "-c", str(config)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return run


@pytest.fixture
def job(config: Path) -> int:
    """A job that has failed."""
    node = NodeFixture(config.parent)
    made = node.job(now=time.time())
    node.claim_job(time.time()).fail("broken")
    node.ledger.close()
    return made.id


def told(config: Path) -> list[dict[str, Any]]:
    """What each message says."""
    lines = (config.parent / "audit.log").read_text(encoding="utf-8").splitlines()
    assert [fault for line in lines for fault in faults(line)] == []
    return [plain(ET.fromstring(line)) for line in lines]


def plain(message: ET.Element) -> dict[str, Any]:
    event = message.find("EventIdentification")
    assert event is not None
    codes = [event.find(name) for name in ("EventID", "EventTypeCode")]
    subject = message.find("ParticipantObjectIdentification")
    detail = None if subject is None else subject.find("ParticipantObjectDetail")
    return {
        "event": [code.attrib["csd-code"] for code in codes if code is not None],
        "outcome": event.attrib["EventOutcomeIndicator"],
        "reason": message.findtext("EventIdentification/EventOutcomeDescription"),
        "who": [
            (item.attrib["UserID"], item.attrib["NetworkAccessPointID"])
            for item in message.findall("ActiveParticipant")
            if item.attrib["UserIsRequestor"] == "true"
        ],
        "what": None if subject is None else subject.attrib["ParticipantObjectID"],
        "detail": "" if detail is None else base64.b64decode(detail.attrib["value"]).decode(),
    }


def me() -> tuple[str, str]:
    return person.person().user_id, socket.gethostname()


@pytest.mark.parametrize(
    ("words", "subject"),
    [
        (("jobs", "retry", "1"), "job/1"),
        (("jobs", "cancel", "1"), "job/1"),
        (("jobs", "pause"), "stage/denoise,send"),
        (("jobs", "pause", "send:pacs"), "stage/send:pacs"),
        (("jobs", "resume"), "stage/all"),
        (("unknown", "take-in"), "unknown"),
    ],
)
def test_an_operators_command_is_audited(
    call: Call, config: Path, job: int, words: tuple[str, ...], subject: str
) -> None:
    assert job == 1
    assert call(*words) == 0
    (act,) = told(config)
    assert act["event"] == ["110113", "110132"]
    assert (act["outcome"], act["reason"]) == ("0", None)
    assert act["who"] == [me()]
    assert act["what"] == f"dicom-node:{subject}"
    assert act["detail"] == f"dicom-node {' '.join(words[:2])} {subject}"


def test_a_failed_command_is_audited_with_its_reason(call: Call, config: Path, job: int) -> None:
    assert call("jobs", "retry", str(job + 1)) != 0
    (act,) = told(config)
    assert act["outcome"] == "8"
    assert act["reason"]


def test_looking_is_no_act(call: Call, config: Path, job: int) -> None:
    for words in (("status",), ("jobs", "list"), ("jobs", "show", str(job)), ("unknown", "list")):
        assert call(*words) == 0
    assert not (config.parent / "audit.log").exists()


def test_nothing_is_done_that_the_trail_cannot_hold(call: Call, config: Path, job: int) -> None:
    (config.parent / "audit.log").mkdir()
    assert call("jobs", "cancel", str(job)) == 2
    (config.parent / "audit.log").rmdir()
    assert call("jobs", "retry", str(job)) == 0  # it was not cancelled, and has failed still


def test_rules_are_audited_with_their_hash(config: Path) -> None:
    rules = config.parent / "rules.yaml"
    texts = ["rules: []\n# second\n", "rules: [\n", "rules: []\n# third\n"]
    begun = rules.read_text()
    steps = list(texts)

    def should_reload() -> bool:
        rules.write_text(steps.pop(0))
        return True

    settings = load_settings(config)
    run_part("serve", settings, should_stop=lambda: not steps, should_reload=should_reload)
    found = [one for one in told(config) if one["event"] == ["110113", "110131"]]
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text in (begun, *texts)]
    assert [one["detail"] for one in found] == [f"rules with SHA-256 {one}" for one in hashes]
    assert [one["outcome"] for one in found] == ["0", "0", "8", "0"]
    assert {one["what"] for one in found} == {rules.as_uri()}


def test_a_person_is_named_by_the_login_and_the_user_acted_as(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = tmp_path / "loginuid"
    monkeypatch.setattr(person, "LOGIN_FILE", login)
    own = pwd.getpwuid(os.geteuid()).pw_name
    assert (person.person().user_id, person.person().user_name) == (own, "")
    login.write_text(f"{person.NO_LOGIN}")
    assert person.person().user_id == own
    login.write_text("54321")
    assert (person.person().user_id, person.person().user_name) == ("54321", f"as {own}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_that_root_makes_belongs_to_the_folder_s_user(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    folder.mkdir()
    os.chown(folder, 4711, 4712)
    destination = FileDestination(folder / "audit.log")
    destination.write(
        Message(APPLICATION_ACTIVITY, Action.EXECUTE, "node", (Participant("1"),), when=1.0)
    )
    made = (folder / "audit.log").stat()
    assert (made.st_uid, made.st_gid) == (4711, 4712)

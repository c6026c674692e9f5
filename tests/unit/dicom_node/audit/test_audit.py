"""Audit messages: what they say (PS3.15 section A.5), and that they never stop the node."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from hypothesis import example, given
from hypothesis import strategies as st
from support.audit_schema import faults
from support.collectors import tls_collector, udp_collector
from support.peers import Ports, free_port, node_settings, wait_until, write_node

from dicom_node.audit import Audit, Peer, open_audit
from dicom_node.audit.message import NODE_ID, Action, Code, Message, Participant, Subject
from dicom_node.errors import ConfigurationError, StorageError
from dicom_node.settings import Settings, load_settings

CT = "1.2.840.10008.5.1.4.1.1.2"
SCANNER = Peer("CTSCAN", "192.0.2.7")
IMAGE = {"study_uid": "1.2.3", "patient_id": "4711", "sop_class_uid": CT}


def settings(folder: Path, audit: dict[str, Any], **changes: Any) -> Settings:
    return load_settings(write_node(folder, node_settings(Ports(), audit=audit, **changes)))


def trail(folder: Path, **audit: Any) -> Audit:
    return open_audit(settings(folder, {"file": "audit.log", **audit}))


def messages(folder: Path) -> list[ET.Element]:
    lines = (folder / "audit.log").read_text(encoding="utf-8").splitlines()
    assert [fault for line in lines for fault in faults(line)] == []
    return [ET.fromstring(line) for line in lines]


def code(element: ET.Element, path: str) -> str:
    found = element.find(path)
    assert found is not None, path
    return found.attrib["csd-code"]


def subjects(message: ET.Element) -> dict[str, ET.Element]:
    return {
        code(item, "ParticipantObjectIDTypeCode"): item
        for item in message.findall("ParticipantObjectIdentification")
    }


def test_a_process_tells_that_it_starts_and_stops(tmp_path: Path) -> None:
    audit = trail(tmp_path)
    audit.application(started=True)
    audit.application(started=False)
    start, stop = messages(tmp_path)
    assert code(start, "EventIdentification/EventID") == "110100"
    assert code(start, "EventIdentification/EventTypeCode") == "110120"
    assert code(stop, "EventIdentification/EventTypeCode") == "110121"
    assert code(start, "ActiveParticipant/RoleIDCode") == "110150"
    (participant,) = start.findall("ActiveParticipant")
    assert participant.attrib["AlternativeUserID"] == "AETITLES=DENOISE"


def test_what_came_in_is_told_once_an_association_study_and_patient(tmp_path: Path) -> None:
    transfer = trail(tmp_path).incoming(SCANNER)
    for _ in range(3):
        transfer.add(**IMAGE)
    transfer.add(**IMAGE, held=True)
    transfer.add(**{**IMAGE, "patient_id": "4712"})
    transfer.end()
    transfer.end()
    new, held, other = messages(tmp_path)
    assert [m.find("EventIdentification").attrib["EventActionCode"] for m in (new, held)] == [
        "C",
        "R",
    ]
    assert code(new, "EventIdentification/EventID") == "110104"
    assert subjects(new)["110180"].attrib["ParticipantObjectID"] == "1.2.3"
    assert subjects(new)["110180"].find(".//SOPClass").attrib == {
        "UID": CT,
        "NumberOfInstances": "3",
    }
    ids = {subjects(m)["2"].attrib["ParticipantObjectID"] for m in (new, held, other)}
    assert len(ids) == 2


def test_source_and_destination_are_named(tmp_path: Path) -> None:
    audit = trail(tmp_path)
    incoming, outgoing = audit.incoming(SCANNER), audit.outgoing(Peer("", "pacs.example"))
    incoming.add(**IMAGE)
    incoming.end()
    outgoing.begin(**IMAGE, images=24)
    outgoing.add(**IMAGE, images=24)
    outgoing.end()
    came, beginning, gone = messages(tmp_path)
    roles = [code(item, "RoleIDCode") for item in came.findall("ActiveParticipant")]
    assert roles == ["110153", "110152"]
    scanner, _ = came.findall("ActiveParticipant")
    assert scanner.attrib == {
        "UserID": "CTSCAN",
        "AlternativeUserID": "AETITLES=CTSCAN",
        "UserIsRequestor": "true",
        "NetworkAccessPointID": "192.0.2.7",
        "NetworkAccessPointTypeCode": "2",
    }
    assert code(beginning, "EventIdentification/EventID") == "110102"
    _, pacs = gone.findall("ActiveParticipant")
    assert (pacs.attrib["UserID"], pacs.attrib["NetworkAccessPointTypeCode"]) == (
        "pacs.example",
        "1",
    )


def outcomes(messages: list[ET.Element]) -> list[tuple[str, str | None, str | None]]:
    """Outcome, its description and the number of images of each message."""
    return [
        (
            message.find("EventIdentification").attrib["EventOutcomeIndicator"],
            message.findtext("EventIdentification/EventOutcomeDescription"),
            next((item.attrib["NumberOfInstances"] for item in message.iter("SOPClass")), None),
        )
        for message in messages
    ]


def test_what_arrived_before_the_end_and_that_it_broke_off_are_told_apart(tmp_path: Path) -> None:
    transfer = trail(tmp_path).incoming(SCANNER)
    transfer.add(**IMAGE, images=2)
    transfer.end("association broken off")
    assert outcomes(messages(tmp_path)) == [
        ("0", None, "2"),
        ("8", "association broken off", None),
    ]


def test_images_that_were_announced_and_refused_are_counted(tmp_path: Path) -> None:
    audit = trail(tmp_path)
    some, none = audit.outgoing(Peer("PACS", "")), audit.outgoing(Peer("PACS", ""))
    for transfer, arrived in ((some, 5), (none, 0)):
        transfer.begin(**IMAGE, images=24)
        if arrived:
            transfer.add(**IMAGE, images=arrived)
        transfer.end("images not stored")
    assert outcomes(messages(tmp_path)) == [
        ("0", None, "24"),
        ("0", None, "5"),
        ("8", "images not stored", "19"),
        ("0", None, "24"),
        ("8", "images not stored", "24"),
    ]


def test_a_refused_peer_is_a_security_alert(tmp_path: Path) -> None:
    trail(tmp_path).security_alert("calling AE title not recognized", peer=SCANNER)
    (message,) = messages(tmp_path)
    assert code(message, "EventIdentification/EventID") == "110113"
    assert code(message, "EventIdentification/EventTypeCode") == "110126"
    detail = subjects(message)["110182"].find("ParticipantObjectDetail")
    assert detail is not None
    assert base64.b64decode(detail.attrib["value"]) == b"calling AE title not recognized"


@pytest.mark.parametrize(("kept", "patient"), [("hashed", False), ("plain", True)])
def test_the_patient_is_hashed_unless_configured_otherwise(
    tmp_path: Path, kept: str, patient: bool
) -> None:
    transfer = trail(tmp_path, patient=kept).incoming(SCANNER)
    transfer.add(**{**IMAGE, "patient_id": "KANARIE-4711"})
    transfer.end()
    messages(tmp_path)
    assert ("KANARIE-4711" in (tmp_path / "audit.log").read_text()) is patient
    assert (tmp_path / "var" / "audit.key").exists() is not patient


def test_the_hash_is_the_site_s(tmp_path: Path) -> None:
    def told(folder: Path) -> str:
        transfer = trail(folder).incoming(SCANNER)
        transfer.add(**IMAGE)
        transfer.end()
        return subjects(messages(folder)[-1])["2"].attrib["ParticipantObjectID"]

    first, again, elsewhere = told(tmp_path / "a"), told(tmp_path / "a"), told(tmp_path / "b")
    assert first == again
    assert first != elsewhere
    assert (tmp_path / "a" / "var" / "audit.key").stat().st_mode & 0o077 == 0


def test_a_key_that_cannot_be_read_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "var" / "audit.key").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"audit\.key, cannot be used"):
        trail(tmp_path)


@example(text="0\n\n0", host="0\n\n0")
@given(
    text=st.text(st.characters(codec="utf-8"), max_size=64),
    host=st.text(st.characters(codec="utf-8"), min_size=1, max_size=64),
)
def test_whatever_a_peer_calls_itself_the_message_stays_one_line_of_xml(
    text: str, host: str
) -> None:
    message = Message(
        event=Code("1", "DCM", text),
        action=Action.EXECUTE,
        source="source",
        participants=(Participant(user_id=text, ae_title=text, host=host),),
        subjects=(Subject(text, NODE_ID, "2", details={"what": text}),),
        description=text,
    )
    xml = message.to_xml()
    assert len(xml.splitlines()) == 1
    assert faults(xml) == []


def test_titles_that_differ_in_a_space_stay_two() -> None:
    told = {
        Message(NODE_ID, Action.EXECUTE, "node", (Participant(title, ae_title=title),)).to_xml()
        for title in ("CT 1", "CT  1", "CT   1")
    }
    assert len(told) == 3


def test_without_destinations_nothing_is_done(tmp_path: Path) -> None:
    audit = open_audit(settings(tmp_path, {}))
    assert not audit.is_enabled
    audit.application(started=True)
    transfer = audit.incoming(SCANNER)
    transfer.add(**IMAGE)
    transfer.end()
    audit.close()
    assert not (tmp_path / "var" / "audit.key").exists()


def test_a_file_that_is_moved_away_is_made_again(tmp_path: Path) -> None:
    audit = trail(tmp_path)
    audit.application(started=True)
    (tmp_path / "audit.log").rename(tmp_path / "audit.log.1")
    audit.application(started=False)
    assert len(messages(tmp_path)) == 1


def test_a_file_that_can_no_longer_be_written_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit = trail(tmp_path)
    (tmp_path / "audit.log").unlink()
    (tmp_path / "audit.log").mkdir()
    with caplog.at_level(logging.ERROR):
        audit.application(started=True)
        audit.application(started=False)
    audit.close()


def test_a_file_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "audit.log").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"audit\.log cannot be written"):
        trail(tmp_path)


def header_and_message(datagram: bytes) -> tuple[list[str], str]:
    header, _, message = datagram.partition(b"\xef\xbb\xbf")
    return header.decode("ascii").split(), message.decode()


def test_messages_go_to_syslog_over_udp(tmp_path: Path) -> None:
    with udp_collector() as collector:
        syslog = {"host": "127.0.0.1", "port": collector.port}
        audit = open_audit(settings(tmp_path, {"syslog": syslog}))
        audit.application(started=True)
        audit.security_alert("refused", peer=SCANNER)
        wait_until("two messages", lambda: len(collector.items) == 2)
        audit.close()
    first, second = (header_and_message(item) for item in collector.items)
    priority, _, _, name, _, message_id, data = first[0]
    assert (priority, name, message_id, data) == ("<85>1", "dicom-node", "DICOM+RFC3881", "-")
    assert second[0][0] == "<84>1"
    assert faults(first[1]) + faults(second[1]) == []


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def tls_files(folder: Path, authority: trustme.CA) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    own = authority.issue_cert("node.example")
    own.cert_chain_pems[0].write_to_path(folder / "node.pem")
    own.private_key_pem.write_to_path(folder / "node.key")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return {"certificate": "node.pem", "key": "node.key", "authorities": "ca.pem"}


def over_tls(folder: Path, port: int, authority: trustme.CA, host: str = "127.0.0.1") -> Audit:
    syslog = {"host": host, "port": port, "transport": "tls"}
    return open_audit(settings(folder, {"syslog": syslog}, tls=tls_files(folder, authority)))


def test_messages_go_to_syslog_over_tls(tmp_path: Path, authority: trustme.CA) -> None:
    with tls_collector(authority) as collector:
        audit = over_tls(tmp_path, collector.port, authority)
        for _ in range(3):
            audit.application(started=True)
        audit.close()
        wait_until("three messages", lambda: len(collector.items) == 3)
    assert [faults(header_and_message(item)[1]) for item in collector.items] == [[], [], []]


def test_messages_wait_for_a_collector_that_is_away(tmp_path: Path, authority: trustme.CA) -> None:
    port = free_port()
    audit = over_tls(tmp_path, port, authority)
    audit.application(started=True)
    with tls_collector(authority, port=port) as collector:
        wait_until("the first message", lambda: len(collector.items) == 1)
    audit.application(started=False)
    with tls_collector(authority, port=port) as again:
        wait_until("the message after the restart", lambda: len(again.items) == 1)
        audit.close()


@pytest.mark.parametrize("how", ["stranger", "other name"])
def test_an_impostor_gets_nothing(tmp_path: Path, authority: trustme.CA, how: str) -> None:
    theirs, host = (trustme.CA(), "127.0.0.1") if how == "stranger" else (authority, "192.0.2.1")
    with tls_collector(theirs, host=host) as collector:
        audit = over_tls(tmp_path, collector.port, authority)
        audit.application(started=True)
        audit.close()
        assert collector.items == []


def test_wrong_certificates_are_said_in_a_sentence(tmp_path: Path, authority: trustme.CA) -> None:
    files = tls_files(tmp_path, authority)
    (tmp_path / "node.key").write_text("no key")
    syslog = {"host": "127.0.0.1", "transport": "tls"}
    with pytest.raises(
        ConfigurationError, match=r"node\.key cannot be used: both must be PEM files"
    ):
        open_audit(settings(tmp_path, {"syslog": syslog}, tls=files))


def test_a_key_under_a_password_is_never_asked_for(tmp_path: Path, authority: trustme.CA) -> None:
    files = tls_files(tmp_path, authority)
    private = serialization.load_pem_private_key((tmp_path / "node.key").read_bytes(), None)
    encrypted = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"of the key"),
    )
    (tmp_path / "node.key").write_bytes(encrypted)
    syslog = {"host": "127.0.0.1", "port": free_port(), "transport": "tls"}
    with pytest.raises(ConfigurationError, match=r"the one in `tls\.key_password`"):
        open_audit(settings(tmp_path, {"syslog": syslog}, tls=files))
    opened = {**files, "key_password": "of the key"}
    open_audit(settings(tmp_path, {"syslog": syslog}, tls=opened)).close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda xml: xml.replace("<EventID ", "<EventIdentity ").replace("EventID/>", ""),
        lambda xml: xml.replace(' UserIsRequestor="false"', ""),
        lambda xml: xml.replace('EventActionCode="E"', 'EventActionCode="X"'),
        lambda xml: xml.replace('originalText="Application"', ""),
    ],
)
def test_the_schema_check_finds_what_is_wrong(tmp_path: Path, spoil: Callable[[str], str]) -> None:
    trail(tmp_path).application(started=True)
    xml = (tmp_path / "audit.log").read_text().strip()
    assert faults(xml) == []
    assert faults(spoil(xml)) != []

"""The audit trail of a running receiver: what came in, who was refused, start and stop."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import trustme
from support.audit_schema import faults
from support.ct_factory import make_series
from support.peers import Ports, listening, node_settings, running, wait_until, write_node

from dicom_node.errors import PeerError
from dicom_node.sending.calls import echo, send_files
from dicom_node.settings import PeerSettings

SLICES = 3


@contextlib.contextmanager
def receiver(folder: Path, ports: Ports, **changes: Any) -> Iterator[None]:
    """``dicom-node receive`` with an audit file."""
    config = write_node(folder, node_settings(ports, audit={"file": "audit.log"}, **changes))
    command = [sys.executable, "-m", "dicom_node.cli", "receive", "-c", config]
    with running(command, folder / "receive.log", cwd=folder):
        wait_until("the receiver listens", lambda: listening(ports.node))
        yield


def node_of(ports: Ports, called: str = "DENOISE") -> PeerSettings:
    return PeerSettings(name="node", ae_title=called, host="127.0.0.1", port=ports.node)


def events(folder: Path) -> list[tuple[str, str, str]]:
    """Event, its type or action, and outcome of each message."""
    lines = (folder / "audit.log").read_text(encoding="utf-8").splitlines()
    assert [fault for line in lines for fault in faults(line)] == []
    return [event(ET.fromstring(line)) for line in lines]


def event(message: ET.Element) -> tuple[str, str, str]:
    identification = message.find("EventIdentification")
    assert identification is not None
    code, kind = identification.find("EventID"), identification.find("EventTypeCode")
    assert code is not None
    how = identification.attrib["EventActionCode"] if kind is None else kind.attrib["csd-code"]
    return code.attrib["csd-code"], how, identification.attrib["EventOutcomeIndicator"]


def test_start_images_and_stop_are_audited(tmp_path: Path) -> None:
    ports, files = Ports(), make_series(tmp_path / "scanner", SLICES)
    with receiver(tmp_path / "node", ports):
        for _ in range(2):
            assert all(sent.ok for sent in send_files(node_of(ports), files, calling_ae="CTSCAN"))
    assert events(tmp_path / "node") == [
        ("110100", "110120", "0"),
        ("110104", "C", "0"),
        ("110104", "R", "0"),
        ("110100", "110121", "0"),
    ]


def test_a_peer_that_is_not_admitted_is_a_security_alert(tmp_path: Path) -> None:
    ports = Ports()
    with receiver(tmp_path, ports, accept={"calling": ["CTSCAN"]}):
        with pytest.raises(PeerError):
            echo(node_of(ports), calling_ae="STRANGER")
        with pytest.raises(PeerError):
            echo(node_of(ports, "OTHER"), calling_ae="CTSCAN")
        echo(node_of(ports), calling_ae="CTSCAN")
    assert events(tmp_path)[1:-1] == [("110113", "110126", "8")] * 2


def test_a_peer_without_a_certificate_is_a_security_alert(tmp_path: Path) -> None:
    ports, authority = Ports(), trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    own.cert_chain_pems[0].write_to_path(tmp_path / "node.pem")
    own.private_key_pem.write_to_path(tmp_path / "node.key")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = {"certificate": "node.pem", "key": "node.key", "authorities": "ca.pem"}
    listen = {"host": "127.0.0.1", "port": ports.node, "tls": True}
    with receiver(tmp_path, ports, tls=tls, listen=listen):
        with socket.create_connection(("127.0.0.1", ports.node)) as plain:
            plain.sendall(b"this is no TLS")
        wait_until("an alert", lambda: len(events(tmp_path)) > 1)
    # The port check with which the test began is none.
    assert events(tmp_path)[1:-1] == [("110113", "110126", "8")]

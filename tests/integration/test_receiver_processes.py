"""Several receiver processes on one port: shared limits, and a killed one is replaced."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import CTImageStorage
from support.ct_factory import make_series
from support.peers import Ports, Process, listening, node_settings, running, wait_until, write_node

from dicom_node.sending.calls import send_files
from dicom_node.settings import PeerSettings

PROCESSES = 3
MOST = 4
MOST_OF_PEER = 3


@pytest.fixture
def receivers(tmp_path: Path) -> Iterator[tuple[Process, int]]:
    ports = Ports()
    listen = {
        "host": "127.0.0.1", "port": ports.node, "processes": PROCESSES,
        "max_associations": MOST, "max_associations_per_peer": MOST_OF_PEER,
    }  # fmt: skip
    config = write_node(tmp_path, node_settings(ports, listen=listen))
    command = [sys.executable, "-m", "dicom_node.cli", "receive", "-c", config]
    with running(command, tmp_path / "receive.log", cwd=tmp_path) as process:
        wait_until("the receivers listen", lambda: process.output.count("listening") == PROCESSES)
        yield process, ports.node


def processes_of(parent: Process) -> list[int]:
    pid = parent.popen.pid
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def associate(port: int, calling: str) -> Association:
    entity = AE(ae_title=calling)
    entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    return entity.associate("127.0.0.1", port, ae_title="DENOISE")


def test_limits_hold_over_all_processes_and_a_killed_one_gives_its_places_back(
    receivers: tuple[Process, int],
) -> None:
    parent, port = receivers
    held = [associate(port, "GREEDY") for _ in range(MOST_OF_PEER)]
    assert all(association.is_established for association in held)
    assert associate(port, "GREEDY").is_rejected
    held.append(associate(port, "OTHER"))
    assert held[-1].is_established
    assert associate(port, "THIRD").is_rejected

    for pid in processes_of(parent):
        os.kill(pid, signal.SIGKILL)
    wait_until("the killed are replaced", lambda: parent.output.count("listening") == 2 * PROCESSES)
    again = [associate(port, "GREEDY") for _ in range(MOST_OF_PEER)]
    assert all(association.is_established for association in again)
    for association in again:
        association.release()


def test_the_port_stays_open_while_a_process_is_away(
    receivers: tuple[Process, int], tmp_path: Path
) -> None:
    parent, port = receivers
    files = make_series(tmp_path / "ct", slices=2)
    peer = PeerSettings(name="node", ae_title="DENOISE", host="127.0.0.1", port=port)
    for pid in processes_of(parent)[1:]:
        os.kill(pid, signal.SIGKILL)
    assert listening(port)
    assert [item.status for item in send_files(peer, files, calling_ae="SCANNER")] == [0, 0]
    assert parent.stop() == 0, parent.output
    assert not listening(port)
    assert "Traceback" not in parent.output


def test_receivers_wait_for_the_port_that_others_are_leaving(tmp_path: Path) -> None:
    ports = Ports()
    listen = {"host": "127.0.0.1", "port": ports.node, "processes": 2}
    config = write_node(tmp_path, node_settings(ports, listen=listen))
    command = [sys.executable, "-m", "dicom_node.cli", "receive", "-c", config]
    with running(command, tmp_path / "first.log", cwd=tmp_path) as first:
        wait_until("the receivers listen", lambda: first.output.count("listening") == 2)
        first.kill()
        with running(command, tmp_path / "second.log", cwd=tmp_path) as second:
            wait_until("the next ones listen", lambda: second.output.count("listening") == 2)
            assert second.stop() == 0, second.output

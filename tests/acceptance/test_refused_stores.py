"""Peers that answer an echo, accept CT and store nothing: reported, never as unreachable."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from support.peers import (
    Orthanc,
    Ports,
    free_port,
    listening,
    node_settings,
    require_program,
    run_command,
    running,
    wait_until,
    write_node,
)
from support.sender_under_test import PATIENT, SenderUnderTest
from support.validators import new_complaints

from dicom_node.checkup.store_trial import TEST_NAME, TEST_PATIENT
from dicom_node.ledger.operations import get_job, retry
from dicom_node.ledger.states import JobState

ABORTED = "aborted the association (A-ABORT, source 0: service user)"
REFUSING = {
    "AllowStore false": {
        "DicomModalities": {
            "node": {"AET": "DENOISE", "Host": "127.0.0.1", "Port": 1, "AllowStore": False}
        }
    },
    "unknown title": {"DicomModalities": {}},
}


@contextlib.contextmanager
def archive(folder: Path, ports: Ports, **options: Any) -> Iterator[Orthanc]:
    """Orthanc with its own idea of who may store."""
    folder.mkdir()
    settings = {
        "StorageDirectory": "stored", "IndexDirectory": "stored", "HttpPort": ports.rest,
        "DicomPort": ports.pacs, "DicomAet": "PACS", "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, **options,
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    command = [require_program("Orthanc"), folder / "orthanc.json"]
    with running(command, folder / "orthanc.log", cwd=folder) as process:
        wait_until("Orthanc answers", lambda: listening(ports.rest) and listening(ports.pacs))
        yield Orthanc(ports, process)


def peer(port: int) -> dict[str, Any]:
    return {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port}


def checked(folder: Path, port: int, *options: str) -> dict[str, tuple[str, str]]:
    """The verdicts of ``check`` on a node with this peer."""
    config = write_node(folder / "node", node_settings(Ports(), peers=[peer(port)]))
    done = run_command("check", *options, "-c", config, "--json")
    told = {item["what"]: (item["verdict"], item["detail"]) for item in json.loads(done.stdout)}
    assert done.returncode == any(verdict == "failed" for verdict, _ in told.values())
    return told


@pytest.mark.parametrize("how", REFUSING)
def test_an_orthanc_that_stores_nothing_is_found_and_told(tmp_path: Path, how: str) -> None:
    ports = Ports()
    refusing = {**REFUSING[how], "DicomAlwaysAllowStore": False}
    line = SenderUnderTest(tmp_path, [peer(ports.pacs)], retry={**PATIENT, "attempts": 2})
    with archive(tmp_path / "refusing", ports, **refusing) as orthanc:
        found = checked(tmp_path, ports.pacs, "--store", "pacs")
        assert found["peer pacs"][0] == "ok"  # it answers and offers CT
        assert found["store at pacs"][0] == "failed"
        assert ABORTED in found["store at pacs"][1]
        for _ in range(6):
            line.sender.send_once(lambda: False)
            line.now += 400.0
        assert line.states() == {JobState.FAILED}
        assert all(ABORTED in reason and "after 2 attempts" in reason for reason in line.reasons())
        assert orthanc.get("/instances") == []
    with archive(tmp_path / "taking", ports) as orthanc:
        for job in line.jobs:
            retry(line.node.ledger, job, now=line.now)
        line.send_all()
        assert len(orthanc.get("/instances")) == len(line.files)
    line.node.ledger.close()


def test_a_check_stores_one_image_that_says_it_is_a_test(tmp_path: Path) -> None:
    ports = Ports()
    with archive(tmp_path / "taking", ports) as orthanc:
        assert "store at pacs" not in checked(tmp_path, ports.pacs)
        assert orthanc.get("/instances") == []
        verdict, detail = checked(tmp_path, ports.pacs, "--store", "pacs")["store at pacs"]
        assert (verdict, TEST_PATIENT in detail) == ("ok", True)
        (instance,) = orthanc.get("/instances")
        path = tmp_path / "stored.dcm"
        path.write_bytes(orthanc.file(instance))
        image = dcmread(path)
        assert (image.PatientName, image.PatientID) == (TEST_NAME, TEST_PATIENT)
        assert "TEST" in image.SeriesDescription
        assert image.ImageType[0] == "DERIVED"
        assert new_complaints([path], []) == []


@pytest.mark.parametrize("option", ["--abort-after", "--abort-during"])
def test_a_storescp_that_aborts_is_told(tmp_path: Path, option: str) -> None:
    port = free_port()
    command = [require_program("storescp"), option, "-od", tmp_path, str(port)]
    with running(command, tmp_path / "storescp.log", cwd=tmp_path):
        wait_until("storescp listens", lambda: listening(port))
        line = SenderUnderTest(tmp_path, [peer(port)])
        line.sender.send_once(lambda: False)
        job = get_job(line.node.ledger, line.jobs[0])
        assert job.state == JobState.RETRY_WAIT
        assert "A-ABORT" in job.reason
        assert (job.deliveries[0].attempts, job.deliveries[0].waits) == (1, 0)
        line.node.ledger.close()


def test_a_storescp_that_is_gone_is_away(tmp_path: Path) -> None:
    line = SenderUnderTest(tmp_path, [peer(free_port())])
    line.sender.send_once(lambda: False)
    job = get_job(line.node.ledger, line.jobs[0])
    assert (job.deliveries[0].attempts, job.deliveries[0].waits) == (0, 1)
    assert "No connection to pacs" in job.reason
    line.node.ledger.close()

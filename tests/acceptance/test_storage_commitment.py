"""Storage commitment with Orthanc, as the side that asks and as the side that is asked."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from support.ct_factory import make_series
from support.peers import (
    Orthanc,
    Ports,
    Process,
    listening,
    node,
    node_settings,
    orthanc,
    running,
    storescu,
    wait_until,
    write_node,
)

from dicom_node.ledger.engine import Ledger, open_ledger
from dicom_node.ledger.operations import list_jobs
from dicom_node.ledger.states import DeliveryState, JobState

SLICES, SIZE = 6, 64
LINE_SECONDS = 90.0


@dataclass
class Line:
    """A PACS that must commit to every derived image, and the node."""

    folder: Path
    ports: Ports
    pacs: Orthanc
    config: Path
    ledger: Ledger

    @contextlib.contextmanager
    def node(self) -> Iterator[Process]:
        with node(self.config, self.ports.node) as process:
            yield process

    def orthanc_id(self, files: list[Path]) -> str:
        """Orthanc's identifier of the series of these files."""
        uid = dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID
        return next(
            str(item["ID"])
            for item in self.pacs.get("/series?expand")
            if item["MainDicomTags"]["SeriesInstanceUID"] == uid
        )

    def ask(self, files: list[Path]) -> str:
        """Orthanc asks the node to commit to a series; the transaction's identifier."""
        resources = {"Resources": [self.orthanc_id(files)]}
        return str(self.pacs.post("/modalities/denoise/storage-commitment", resources)["ID"])

    def report(self, asked: str) -> dict[str, Any]:
        """What the node reports to Orthanc, once it has."""

        def answered() -> dict[str, Any] | None:
            said: dict[str, Any] = self.pacs.get(f"/storage-commitment/{asked}")
            return None if said["Status"] == "Pending" else said

        return wait_until("the node reports", answered, LINE_SECONDS)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    folder, ports = tmp_path_factory.mktemp("commitment"), Ports()
    peer = {"name": "pacs", "ae_title": "LOOPPACS", "host": "127.0.0.1", "port": ports.pacs}
    settings = node_settings(ports, peers=[{**peer, "storage_commitment": True}])
    config = write_node(folder / "node", settings)
    ledger = open_ledger(f"sqlite:///{config.parent}/var/ledger.db")
    with orthanc(folder / "pacs", ports) as pacs:
        yield Line(folder, ports, pacs, config, ledger)
    ledger.close()


def test_each_commits_to_what_it_holds_of_the_other(line: Line) -> None:
    files = make_series(line.folder / "ct", SLICES, SIZE, study="ct")
    # The PACS's rule leaves this one alone, so that the node never gets it.
    kept_back = make_series(line.folder / "mr", SLICES, SIZE, study="mr", modality="MR")
    with line.node() as process:
        for series in (files, kept_back):
            storescu(series, line.ports.pacs, calling="CTSCAN", called="LOOPPACS")
        wait_until("the job is done", lambda: states(line) == [JobState.DONE], LINE_SECONDS)
        # The PACS has committed to the derived images, in a report of its own.
        (job,) = list_jobs(line.ledger)
        assert [item.state for item in job.deliveries] == [DeliveryState.CONFIRMED]
        assert "storage commitment reported" in process.output

        said = line.report(line.ask(files))
        assert (said["Status"], len(said["Success"])) == ("Success", SLICES)
        said = line.report(line.ask(kept_back))
        assert (said["Status"], len(said["Failures"])) == ("Failure", SLICES)
        assert process.stop() == 0, process.output
    assert "Traceback" not in process.output


def test_a_report_is_owed_however_long_the_sender_is_away(line: Line) -> None:
    """The request is on disk when it is answered; the sender may come days later."""
    files = make_series(line.folder / "ct", SLICES, SIZE, study="ct")
    with part(line, "receive"):
        wait_until("the receiver listens", lambda: listening(line.ports.node))
        asked = line.ask(files)
    assert line.pacs.get(f"/storage-commitment/{asked}")["Status"] == "Pending"
    with part(line, "deliver"):
        assert line.report(asked)["Status"] == "Success"


@contextlib.contextmanager
def part(line: Line, command: str) -> Iterator[Process]:
    """One part of the node alone."""
    words = [sys.executable, "-m", "dicom_node.cli", command, "-c", line.config]
    log = line.config.parent / f"{command}.log"
    with running(words, log, cwd=line.config.parent) as process:
        yield process


def states(line: Line) -> list[JobState]:
    return [job.state for job in list_jobs(line.ledger)]

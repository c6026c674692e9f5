"""The whole line against real peers: DCMTK is the scanner, Orthanc the PACS that routes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread
from support.ct_factory import make_series
from support.peers import (
    Orthanc,
    Ports,
    Process,
    children,
    node,
    node_settings,
    orthanc,
    storescu,
    wait_until,
    write_node,
)
from support.validators import new_complaints

from dicom_node.ledger.engine import Ledger, open_ledger
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import list_jobs
from dicom_node.ledger.series import list_series
from dicom_node.ledger.states import JobState, SeriesState
from man_core import list_models

SLICES, SIZE = 8, 128
LINE_SECONDS = 300.0


def default_model() -> str:
    """The shipped model; while there is none, the one that changes nothing."""
    return "man" if any(card.name == "man" for card in list_models()) else "identity"


@dataclass
class Line:
    """Scanner, PACS and node, wired up on free ports."""

    folder: Path
    ports: Ports
    pacs: Orthanc
    config: Path
    ledger: Ledger

    @contextlib.contextmanager
    def node(self) -> Iterator[Process]:
        with node(self.config, self.ports.node) as process:
            yield process

    def scan(self, name: str, slices: int = SLICES, size: int = SIZE) -> list[Path]:
        return make_series(self.folder / name, slices, size, study=name, description=name)

    def scanner_sends(self, files: list[Path]) -> None:
        storescu(files, self.ports.pacs, calling="CTSCAN", called="LOOPPACS")

    def jobs(self) -> list[Job]:
        return list_jobs(self.ledger)

    def in_state(self, state: JobState) -> bool:
        return any(job.state is state for job in self.jobs())

    def derived_of(self, source_uid: str, count: int) -> str | None:
        """UID of the one further series of the study at the PACS, once it is whole."""
        study = study_of(self.pacs, source_uid)
        others = {uid: found for uid, found in study.items() if uid != source_uid}
        assert len(others) <= 1
        return next((uid for uid, found in others.items() if len(found) == count), None)


def study_of(pacs: Orthanc, series_uid: str) -> dict[str, list[str]]:
    """Series UID to instances, of all series in the study of one."""
    series = pacs.get("/series?expand")
    (parent,) = {
        item["ParentStudy"]
        for item in series
        if item["MainDicomTags"]["SeriesInstanceUID"] == series_uid
    }
    return {
        item["MainDicomTags"]["SeriesInstanceUID"]: item["Instances"]
        for item in series
        if item["ParentStudy"] == parent
    }


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    folder = tmp_path_factory.mktemp("line")
    ports = Ports()
    model = {"name": default_model(), "device": "cpu"}
    config = write_node(folder / "node", node_settings(ports, model=model))
    ledger = open_ledger(f"sqlite:///{config.parent}/var/ledger.db")
    with orthanc(folder / "pacs", ports) as pacs:
        yield Line(folder, ports, pacs, config, ledger)
    ledger.close()


def uid_of(files: list[Path]) -> str:
    return str(dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)


def test_a_series_is_routed_denoised_and_comes_back_once(line: Line) -> None:
    source = line.scan("first")
    with line.node() as process:
        line.scanner_sends(source)
        derived_uid = wait_until(
            "the derived series is at the PACS",
            lambda: line.derived_of(uid_of(source), len(source)),
            LINE_SECONDS,
        )
        wait_until("the job is done", lambda: line.in_state(JobState.DONE))
        derived = line.pacs.download(derived_uid, line.folder / "derived")
        assert new_complaints(derived, source) == []
        check_headers(derived, source)

        # The scanner sends once more, and the PACS's rule is asked to route once more.
        line.scanner_sends(source)
        line.pacs.post(
            "/modalities/denoise/store",
            {"Resources": line.pacs.series()[uid_of(source)], "Synchronous": True},
        )
        # The loop: the PACS sends the derived series itself.
        line.pacs.post(
            "/modalities/denoise/store",
            {"Resources": line.pacs.series()[derived_uid], "Synchronous": True},
        )
        wait_until("the derived series is skipped", lambda: skipped_with_reason(line))
        assert len(line.jobs()) == 1
        assert line.derived_of(uid_of(source), len(source)) == derived_uid
        assert process.stop() == 0, process.output
    assert "Traceback" not in process.output


def check_headers(derived: list[Path], source: list[Path]) -> None:
    before = {dcmread(path).SOPInstanceUID: dcmread(path) for path in source}
    for path in derived:
        after = dcmread(path)
        origin = before[after.SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert after.ImageType[0] == "DERIVED"
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "InstanceNumber"):
            assert after[keyword].value == origin[keyword].value, keyword
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            assert after[keyword].value == origin[keyword].value, keyword


def skipped_with_reason(line: Line) -> bool:
    skipped = list_series(line.ledger, states=[SeriesState.SKIPPED])
    return [item.reason for item in skipped] == ["already denoised by this product"]


@pytest.mark.parametrize("victim", ["work", "node"])
def test_kill_in_the_middle_of_a_job_loses_and_doubles_nothing(line: Line, victim: str) -> None:
    source = line.scan(victim, slices=24, size=192)
    with line.node() as process:
        line.scanner_sends(source)
        wait_until(
            "a job is being denoised", lambda: line.in_state(JobState.DENOISING), LINE_SECONDS
        )
        if victim == "work":
            os.kill(children(process.popen.pid)["work"], signal.SIGKILL)
            assert line.jobs()[0].derived_count == 0, "the worker was killed too late"
            finish(line, source)
            return
        process.kill()
    with line.node():
        finish(line, source)


def finish(line: Line, source: list[Path]) -> None:
    """The job completes with exactly one derived series."""
    wait_until(
        "the derived series is at the PACS",
        lambda: line.derived_of(uid_of(source), len(source)),
        LINE_SECONDS,
    )
    wait_until("every job is done", lambda: {job.state for job in line.jobs()} == {JobState.DONE})
    assert len(study_of(line.pacs, uid_of(source))) == 2

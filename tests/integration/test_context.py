"""Late slices of a model that sees neighbours: worker, report, derived images, and the command."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from support.ct_factory import make_series
from support.ledger_factory import START, House, NodeFixture
from support.told_model import CONFIG, write_told_model
from support.workers import model_worker

from dicom_node.cli import main
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import list_jobs
from dicom_node.ledger.states import JobState


@pytest.fixture
def seeing(tmp_path: Path) -> str:
    """The name of a model that sees the slices below and above each one."""
    return str(write_told_model(tmp_path / "models", replace(CONFIG, context_slices=1)))


def denoise(node: NodeFixture, now: float) -> tuple[Job, list[Path]]:
    """Complete the series that has arrived and denoise it: the job and its derived files."""
    House(node).complete_series(now)
    assert model_worker(node, now).work_once(lambda: False)
    (*_, job) = sorted(list_jobs(node.ledger), key=lambda job: job.id)
    assert job.state == JobState.DERIVED
    return job, list(node.outbox.committed(job.token))


def source_numbers(path: Path, numbers: dict[str, int]) -> list[int]:
    """The places in the source of the images that a derived image names."""
    listed = dcmread(path, stop_before_pixels=True).SourceImageSequence
    return [numbers[one.ReferencedSOPInstanceUID] for one in listed]


def test_late_slices_see_what_is_there_and_nothing_is_derived_twice(
    seeing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_series(tmp_path / "scan", slices=6)
    numbers = {dcmread(path).SOPInstanceUID: place for place, path in enumerate(files)}
    guard = {"action": "off"}  # the weights are random
    node = NodeFixture(tmp_path, model={"name": seeing, "device": "cpu"}, guard=guard)
    node.arrive_files(files[:4], START)
    first, early = denoise(node, START + 20)
    sent = [path.read_bytes() for path in early]
    node.arrive_files(files[4:], START + 1000)
    second, late = denoise(node, START + 1020)
    reports = [
        json.loads((node.settings.reports_folder / f"{job.token}.json").read_text())
        for job in (first, second)
    ]
    node.ledger.close()
    assert [source_numbers(path, numbers) for path in early] == [
        [0, 1],
        [1, 0, 2],
        [2, 1, 3],
        [3, 2],
    ]
    assert [source_numbers(path, numbers) for path in late] == [[4, 3, 5], [5, 4]]
    assert [path.read_bytes() for path in early] == sent
    assert len({report["derived_series_uid"] for report in reports}) == 1
    assert reports[0]["remarks"] == []
    (remark,) = reports[1]["remarks"]
    assert remark.startswith("1 earlier image beside these late ones")

    words = ["denoise", str(tmp_path / "scan"), str(tmp_path / "out"), "--model", seeing]
    monkeypatch.setattr(sys, "argv", ["dicom-node", *words, "--guard", "off", "--device", "cpu"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    whole = [path.read_bytes() for path in sorted((tmp_path / "out").glob("*.dcm"))]
    same = [
        one == other
        for one, other in zip(whole, [*sent, *(p.read_bytes() for p in late)], strict=True)
    ]
    assert same == [True, True, True, False, True, True]  # and the fourth names what it saw

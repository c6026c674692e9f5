"""The guard in the node: blocked results are not sent, flagged ones are sent and reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydicom import Dataset, dcmread
from support.ct_factory import make_series
from support.denoisers import SeededDenoiser, ShiftingDenoiser
from support.ledger_factory import START, House, NodeFixture, at
from support.slices import read_slices
from support.workers import model_worker

from dicom_node import telemetry
from dicom_node.ct.files import encode
from dicom_node.ct.read import open_series
from dicom_node.denoising.folder import denoise_folder
from dicom_node.denoising.report import ImplausibleResult
from dicom_node.denoising.series import DenoiseOptions, GuardOptions, denoise_series
from dicom_node.ledger.jobs import claim_job
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import get_job, list_jobs, retry
from dicom_node.ledger.states import JobState
from dicom_node.settings import GuardSettings
from man_core import Volume, load_denoiser, spread_over_seeds

BLOCKED_HU, FLAGGED_HU = 20.0, 3.0
"""Shifts of all tissue that the guard blocks and flags."""


@pytest.fixture
def counted(node: NodeFixture) -> Iterator[NodeFixture]:
    """A node that counts."""
    telemetry.open_telemetry(node.settings.metrics_folder, process="work")
    yield node
    telemetry.close_telemetry()


def work(
    node: NodeFixture, monkeypatch: pytest.MonkeyPatch, by_hu: float, **guard: Any
) -> tuple[Job, dict[str, Any]]:
    """The job of one series that a model has shifted, and its run report."""
    if not list_jobs(node.ledger):
        node.arrive_series(slices=3)
        House(node).complete_series(START + 10)
    monkeypatch.setattr("man_core.load_denoiser", lambda *_, **__: ShiftingDenoiser(by_hu))
    settings = node.settings.model_copy(update={"guard": GuardSettings(**guard)})
    worker = model_worker(node, START + 10, settings)
    assert worker.work_once(lambda: False)
    (job,) = list_jobs(node.ledger)
    report = (node.settings.reports_folder / f"{job.token}.json").read_text(encoding="utf-8")
    return get_job(node.ledger, job.id), json.loads(report)


def metric(node: NodeFixture, verdict: str) -> float:
    """How often the soft tissue's mean got this verdict."""
    registry = CollectorRegistry()
    telemetry.collect_into(registry, node.settings.metrics_folder)
    start = f'dicom_node_guard_verdicts_total{{check="drift_soft_tissue",verdict="{verdict}"}} '
    lines = generate_latest(registry).decode().splitlines()
    (found,) = (line for line in lines if line.startswith(start))
    return float(found.removeprefix(start))


def test_a_blocked_job_fails_for_good_and_nothing_of_it_can_be_sent(
    counted: NodeFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, report = work(counted, monkeypatch, BLOCKED_HU)
    assert job.state == JobState.FAILED
    assert job.reason.startswith("The guard blocked the result: ")
    assert "the mean of soft tissue shifts by +20.0 HU" in job.reason
    assert list(counted.outbox.root.iterdir()) == []
    assert (report["verdict"], report["blocked"], report["files"]) == ("block", True, 0)
    assert metric(counted, "block") == 1.0


def test_a_blocked_job_is_released_by_other_settings_and_a_retry(
    node: NodeFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = work(node, monkeypatch, BLOCKED_HU)
    retry(node.ledger, job.id, now=START + 10)
    job, report = work(node, monkeypatch, BLOCKED_HU, action="flag")
    assert job.state == JobState.DERIVED
    assert (report["verdict"], report["blocked"], report["files"]) == ("block", False, 3)


def test_a_flagged_result_is_sent_and_reported(
    counted: NodeFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, report = work(counted, monkeypatch, FLAGGED_HU)
    assert (job.state, report["verdict"]) == (JobState.DERIVED, "flag")
    assert claim_job(counted.ledger, owner="w", off_peak=False, clock=at(START + 20)) is None
    found = {one["check"]: one for one in report["findings"]}
    assert found["drift_soft_tissue"]["verdict"] == "flag"
    assert found["drift_soft_tissue"]["value"] == pytest.approx(FLAGGED_HU, abs=0.1)
    assert (metric(counted, "flag"), metric(counted, "block")) == (1.0, 0.0)


def images_of(node: NodeFixture, job: Job) -> list[Dataset]:
    return [dcmread(path) for path in node.outbox.committed(job.token)]


def test_images_of_a_flagged_series_say_so_and_are_otherwise_the_same(
    node: NodeFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same work with wider limits is not flagged: only the statement differs."""
    flagged, _ = work(node, monkeypatch, FLAGGED_HU)
    other = NodeFixture(tmp_path / "other")
    wide, _ = work(other, monkeypatch, FLAGGED_HU, limits={"drift_soft_tissue": (50.0, 60.0)})
    for told, silent in zip(images_of(node, flagged), images_of(other, wide), strict=True):
        text = str(told.DerivationDescription)
        assert "Flagged by the plausibility guard: the mean of soft tissue shifts by" in text
        assert str(told.ImageComments).startswith("Flagged by the plausibility guard.")
        assert "ImageComments" not in silent
        assert str(silent.DerivationDescription) in text
        told.DerivationDescription = silent.DerivationDescription
        del told.ImageComments
        assert told == silent
        assert encode(told) == encode(silent)


def test_a_blocking_finding_that_is_let_pass_is_stated_too(
    node: NodeFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, _ = work(node, monkeypatch, BLOCKED_HU, action="flag")
    for image in images_of(node, job):
        assert "Flagged by the plausibility guard" in str(image.DerivationDescription)


def test_a_long_statement_fits_and_the_source_keeps_its_own_comments(tmp_path: Path) -> None:
    def talkative(dataset: Dataset) -> None:
        dataset.DerivationDescription, dataset.ImageComments = "y" * 1024, "of the scanner"

    files = make_series(tmp_path / "in", change=talkative)
    options = DenoiseOptions(guard=GuardOptions(action="flag"))
    missing = "; ".join(f"1 slice is missing between images {n} and {n + 1}" for n in range(20))
    report = denoise_series(
        files, tmp_path / "out", ShiftingDenoiser(BLOCKED_HU), options, missing=missing[:700]
    )
    for path in report.files:
        image = dcmread(path)
        assert len(image.DerivationDescription) <= 1024
        assert "Flagged by the plausibility guard" in image.DerivationDescription
        assert image.ImageComments == "of the scanner"


def test_limits_of_the_site_count(node: NodeFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = dict.fromkeys(("drift_soft_tissue", "drift_air", "coherence"), (50.0, 60.0))
    job, report = work(node, monkeypatch, BLOCKED_HU, limits=limits)
    assert (job.state, report["verdict"]) == (JobState.DERIVED, "ok")


def test_a_guard_that_is_off_finds_nothing(
    node: NodeFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, report = work(node, monkeypatch, BLOCKED_HU, action="off")
    assert (job.state, report["findings"], report["verdict"]) == (JobState.DERIVED, [], None)


def test_offline_a_blocked_series_leaves_what_was_there(tmp_path: Path) -> None:
    make_series(tmp_path / "in")
    (outcome,) = denoise_folder(tmp_path / "in", tmp_path / "out", ShiftingDenoiser(BLOCKED_HU))
    assert outcome.destination is None
    assert outcome.error is not None
    assert "guard blocked" in outcome.error
    assert outcome.report is not None
    assert outcome.report.denoise.verdict == "block"
    assert list((tmp_path / "out").iterdir()) == []


def test_the_reason_names_no_patient(tmp_path: Path) -> None:
    files = make_series(tmp_path / "in", patient_name="CANARY^BIRD", patient_id="C4N4RY")
    with pytest.raises(ImplausibleResult) as caught:
        denoise_series(files, tmp_path / "out", ShiftingDenoiser(BLOCKED_HU))
    told = str(caught.value) + caught.value.report.to_json()
    assert "CANARY" not in told
    assert "C4N4RY" not in told
    assert not caught.value.transient


def test_the_spread_over_seeds_is_reported_when_asked_for(tmp_path: Path) -> None:
    files = make_series(tmp_path / "in")
    options = DenoiseOptions(guard=GuardOptions(seeds=2))
    report = denoise_series(files, tmp_path / "out", load_denoiser("identity"), options)
    assert report.to_dict()["uncertainty"] == {"seeds": 2, "median_hu": 0.0, "p99_hu": 0.0}


@pytest.mark.parametrize("only", [None, (1, 3)])
def test_the_spread_over_seeds_is_that_of_the_slices_that_are_derived(
    tmp_path: Path, only: tuple[int, ...] | None
) -> None:
    files = make_series(tmp_path / "in", slices=40, size=32)
    chosen = None if only is None else [files[index] for index in only]
    options = DenoiseOptions(guard=GuardOptions("off", seeds=3))
    report = denoise_series(files, tmp_path / "out", SeededDenoiser(), options, only=chosen)
    stack = open_series(files, only=chosen)
    hu = np.stack([hu for _, hu in read_slices(stack)])
    first = report.denoise.seed
    _, expected = spread_over_seeds(
        Volume(hu, stack.spacing_mm, stack.affine),
        SeededDenoiser(),
        stack.condition,
        seeds=range(first, first + 3),
    )
    assert (expected.median_hu or 0.0) > 0.0
    assert report.uncertainty == expected

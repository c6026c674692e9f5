"""A dose gain that follows from the site's own full-dose series: learned, checked and used."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from support.ct_factory import make_series
from support.ledger_factory import START, House, NodeFixture
from support.peers import Ports, node_settings, write_node
from support.told_model import DEFAULT_GAIN, write_told_model
from support.workers import model_worker

from dicom_node.cli import main
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import list_jobs
from dicom_node.ledger.states import JobState

RULES = "rules:\n- denoise: {dose_gain: auto}\n"
FLAG = {"action": "flag"}
"""The weights are random, so that the guard would keep every result back."""

FULL_HU = 10.0

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command in this process: its exit code, output and errors."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dicom-node", *map(str, words)])
        capsys.readouterr()  # what the node has logged
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return int(end.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def told(tmp_path: Path) -> str:
    """The name of a model that is told the dose gain, 4 by default."""
    return str(write_told_model(tmp_path / "models"))


def of_kind(kernel: str, region: str = "CHEST") -> Callable[[Dataset], None]:
    def change(dataset: Dataset) -> None:
        dataset.ConvolutionKernel, dataset.BodyPartExamined = kernel, region

    return change


def full_doses(folder: Path, kernel: str = "B30f", patients: int = 3, **options: Any) -> Path:
    """Full-dose series, each of a patient of its own."""
    for number in range(patients):
        make_series(
            folder / str(number),
            slices=2,
            noise_hu=FULL_HU,
            seed=number,
            patient_id=f"SECRET-{number}",
            study=f"full {kernel} {number}",
            change=of_kind(kernel),
            **options,
        )
    return folder


@pytest.fixture
def reference(call: Call, tmp_path: Path) -> Path:
    """The file that the command has learned."""
    path = tmp_path / "reference.json"
    ended = call("noise-reference", full_doses(tmp_path / "full"), "-o", path)
    assert ended[0] == 0, ended
    return path


def configure(folder: Path, model: dict[str, Any], rules: str = "rules: []") -> Path:
    """The configuration of a command; its rules lie beside it."""
    changes = {"model": {"device": "cpu", **model}, "guard": FLAG}
    config = write_node(folder / "node", node_settings(Ports(), **changes))
    (config.parent / "rules.yaml").write_text(rules)
    return config


def node_of(folder: Path, model: dict[str, Any], **changes: Any) -> NodeFixture:
    (folder / "rules.yaml").write_text(RULES)
    return NodeFixture(folder, model=model, rules=folder / "rules.yaml", guard=FLAG, **changes)


def denoise(node: NodeFixture, now: float) -> tuple[Job, list[Path], dict[str, Any]]:
    """Complete the series that has arrived and denoise it: job, derived files and report."""
    House(node).complete_series(now)
    assert model_worker(node, now).work_once(lambda: False)
    (*_, job) = sorted(list_jobs(node.ledger), key=lambda job: job.id)
    assert job.state == JobState.DERIVED, job.reason
    report = json.loads((node.settings.reports_folder / f"{job.token}.json").read_text())
    return job, list(node.outbox.committed(job.token)), report


def test_the_command_learns_the_noise_of_each_kind(call: Call, tmp_path: Path) -> None:
    folder = full_doses(tmp_path / "full")
    make_series(folder / "own", slices=1, study="x", change=of_kind("LUNG"))
    make_series(folder / "air", hu=np.full((1, 64, 64), -900.0), study="air")
    make_series(folder / "scout", slices=1, study="y", image_type=("DERIVED", "PRIMARY", "AXIAL"))
    (folder / "0" / "broken.dcm").write_bytes(b"no image")
    path = tmp_path / "kept" / "reference.json"
    code, out, _ = call("noise-reference", folder, "-o", path, "--json")
    assert code == 0
    told = json.loads(out)
    assert (told["series"], len(told["skipped"])) == (4, 3)
    assert all("SECRET" not in text for text in (out, path.read_text()))
    kernels = {cell["kernel"]: cell for cell in told["cells"] if cell["kernel"]}
    assert kernels["B30F"]["noise_hu"] == pytest.approx(FULL_HU, rel=0.2)
    assert [kernels[name]["patients"] for name in ("B30F", "LUNG")] == [3, 1]
    assert [kernels[name]["used"] for name in ("B30F", "LUNG")] == [True, False]
    assert [entry.name for entry in path.parent.iterdir()] == ["reference.json"]
    code, out, err = call("noise-reference", folder, folder, "-o", path)
    assert (code, "4 series of" in out, "an earlier folder" in err) == (0, True, True)


def test_nothing_to_learn_leaves_the_file_as_it_was(call: Call, tmp_path: Path) -> None:
    make_series(tmp_path / "air", hu=np.full((1, 64, 64), -900.0))
    path = tmp_path / "reference.json"
    path.write_text("earlier")
    code, _, err = call("noise-reference", tmp_path / "air", "-o", path)
    assert (code, "no soft tissue" in err, path.read_text()) == (1, True, "earlier")


def test_the_gain_of_a_series_follows_once(
    call: Call, told: str, reference: Path, tmp_path: Path, database: str
) -> None:
    """Late slices get the first ones' gain, whatever the reference says by then."""
    files = make_series(tmp_path / "in", slices=5, noise_hu=2 * FULL_HU, change=of_kind("B30f"))
    model = {"name": told, "noise_reference": str(reference)}
    node = node_of(tmp_path, model, database=database)
    node.arrive_files(files[:4], START)
    job, by_node, report = denoise(node, START + 20)
    gain = report["dose_gain"]
    assert gain == pytest.approx(4.0, rel=0.35)
    assert (job.dose_gain, job.measured_gain, job.gain_basis) == (
        "auto",
        gain,
        report["gain_basis"],
    )
    assert "of full dose (kernel B30F, CHEST, 1.8 to 3.5 mm, 3 patients)" in job.gain_basis
    config = configure(tmp_path, model, RULES)
    (tmp_path / "early").mkdir()
    for file in files[:4]:
        (tmp_path / "early" / file.name).write_bytes(file.read_bytes())
    code, _, err = call("denoise", tmp_path / "early", tmp_path / "out", "-c", config)
    assert (code, job.gain_basis in err) == (0, True)
    by_command = sorted((tmp_path / "out").glob("*.dcm"))
    assert [path.read_bytes() for path in by_node] == [path.read_bytes() for path in by_command]
    assert f"dose gain {gain:g}, " in dcmread(by_node[0]).DerivationDescription

    reference.unlink()
    node.arrive_files(files[4:], START + 1000)
    late, (by_late,), report = denoise(node, START + 1020)
    node.ledger.close()
    assert (late.measured_gain, report["gain_basis"]) == (gain, job.gain_basis)
    assert dcmread(by_late).SeriesInstanceUID == dcmread(by_node[0]).SeriesInstanceUID


def test_a_series_that_cannot_be_judged_gets_the_default_and_it_is_said(
    told: str, reference: Path, tmp_path: Path
) -> None:
    head = of_kind("B30f", "HEAD")
    files = make_series(tmp_path / "in", slices=2, noise_hu=40.0, change=head)
    node = node_of(tmp_path, {"name": told, "noise_reference": str(reference)})
    node.arrive_files(files, START)
    job, _, report = denoise(node, START + 20)
    node.ledger.close()
    assert (job.measured_gain, report["dose_gain"]) == (DEFAULT_GAIN, DEFAULT_GAIN)
    assert job.gain_basis == report["gain_basis"]
    assert job.gain_basis == (
        "default of the model's card: the series cannot be judged, since the noise reference has no"
        " series like it"
    )


def test_a_full_dose_is_never_made_louder(
    call: Call, told: str, reference: Path, tmp_path: Path
) -> None:
    make_series(tmp_path / "in", slices=2, noise_hu=0.6 * FULL_HU, change=of_kind("B30f"))
    words = ("--model", told, "--guard", "flag", "--dose-gain", "auto", "--json")
    folders = (tmp_path / "in", tmp_path / "out")
    code, out, _ = call("denoise", *folders, *words, "--noise-reference", reference)
    assert (code, json.loads(out)[0]["report"]["dose_gain"]) == (0, 1.0)


def test_auto_without_a_usable_reference_is_refused(call: Call, told: str, tmp_path: Path) -> None:
    make_series(tmp_path / "in", slices=1)
    folders = (tmp_path / "in", tmp_path / "out")
    auto = ("denoise", *folders, "--model", told, "--dose-gain", "auto")
    code, _, err = call(*auto)
    assert (code, "name it with --noise-reference" in err) == (2, True)
    damaged = tmp_path / "damaged.json"
    damaged.write_text("{}")
    for path, words in ((damaged, "is damaged"), (tmp_path / "none.json", "cannot be read")):
        code, _, err = call(*auto, "--noise-reference", path)
        assert (code, words in err) == (2, True)
    unused = ("denoise", *folders, "--model", told, "--noise-reference", damaged)
    assert (call(*unused)[0], call(*unused, "--dose-gain", "2")[0]) == (2, 2)
    config = configure(tmp_path, {"name": told, "dose_gain": "auto"})
    code, _, err = call("denoise", *folders, "-c", config)
    assert (code, "needs `model.noise_reference` in node.yaml" in err) == (2, True)
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").rglob("*")) == []


def test_a_job_fails_with_the_reason_while_the_reference_is_gone(
    told: str, reference: Path, tmp_path: Path
) -> None:
    files = make_series(tmp_path / "in", slices=1, change=of_kind("B30f"))
    node = node_of(tmp_path, {"name": told, "noise_reference": str(reference)})
    node.arrive_files(files, START)
    House(node).complete_series(START + 20)
    reference.rename(tmp_path / "away.json")
    assert model_worker(node, START + 20).work_once(lambda: False)
    (job,) = list_jobs(node.ledger)
    node.ledger.close()
    assert (job.state, job.measured_gain) == (JobState.FAILED, None)
    assert "The noise reference" in job.reason


def test_the_check_reads_the_reference(
    call: Call, told: str, reference: Path, tmp_path: Path
) -> None:
    def verdict(path: Path) -> tuple[str, str]:
        model = {"name": told, "dose_gain": "auto", "noise_reference": str(path)}
        out = call("check", "-c", configure(tmp_path, model), "--json")[1]
        (found,) = [item for item in json.loads(out) if item["what"] == "noise reference"]
        return found["verdict"], found["detail"]

    assert verdict(reference)[0] == "ok"
    thin = tmp_path / "thin.json"
    call("noise-reference", full_doses(tmp_path / "thin", patients=2), "-o", thin)
    found, detail = verdict(thin)
    assert (found, "always the default of the model's card" in detail) == ("warning", True)
    assert verdict(tmp_path / "none.json")[0] == "failed"
    thin.write_text("{")
    assert verdict(thin)[0] == "failed"


def test_rules_and_jobs_show_auto(call: Call, told: str, reference: Path, tmp_path: Path) -> None:
    (file,) = make_series(tmp_path / "in", slices=1)
    config = configure(tmp_path, {"name": told, "noise_reference": str(reference)}, RULES)
    assert "dose gain auto, to pacs" in call("rules", "test", file, "-c", config)[1]
    (series,) = json.loads(call("rules", "test", file, "-c", config, "--json")[1])
    assert series["denoise"]["dose_gain"] == "auto"
    node = node_of(config.parent, {"name": told, "noise_reference": str(reference)})
    node.arrive_files([file], START)
    job, _, _ = denoise(node, START + 20)
    node.ledger.close()
    shown = json.loads(call("jobs", "show", str(job.id), "-c", config, "--json")[1])
    assert (shown["dose_gain"], shown["gain_basis"]) == ("auto", job.gain_basis)

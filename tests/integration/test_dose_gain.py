"""The dose gain from settings, rules and the command line to jobs, reports and derived headers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread
from support.ct_factory import make_series
from support.ledger_factory import START, House, NodeFixture
from support.peers import Ports, node_settings, write_node
from support.told_model import write_told_model
from support.workers import model_worker

from dicom_node.cli import main
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import list_jobs
from dicom_node.ledger.states import JobState

CANNOT = "cannot be told a dose gain: ask for none"
FLAG = {"action": "flag"}
"""The weights are random, so that the guard would keep every result back."""

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


def configure(folder: Path, model: dict[str, Any], rules: str = "rules: []") -> Path:
    """The configuration of a command; its rules lie beside it."""
    changes = {"model": {"device": "cpu", **model}, "guard": FLAG}
    config = write_node(folder / "node", node_settings(Ports(), **changes))
    (config.parent / "rules.yaml").write_text(rules)
    return config


def node_of(folder: Path, model: dict[str, Any], rules: str, **changes: Any) -> NodeFixture:
    (folder / "rules.yaml").write_text(rules)
    return NodeFixture(folder, model=model, rules=folder / "rules.yaml", guard=FLAG, **changes)


def denoise(node: NodeFixture, now: float) -> tuple[Job, list[Path]]:
    """Complete the series that has arrived and denoise it: the job and its derived files."""
    House(node).complete_series(now)
    assert model_worker(node, now).work_once(lambda: False)
    (*_, job) = sorted(list_jobs(node.ledger), key=lambda job: job.id)
    assert job.state == JobState.DERIVED
    return job, list(node.outbox.committed(job.token))


@pytest.mark.parametrize(
    ("gain", "number", "description"),
    [
        (None, "4", "Phantom MAN"),
        (4.0, "4", "Phantom MAN"),
        (2.35, "2.35", "Phantom MAN dose x2.35"),
    ],
)
def test_the_node_and_the_command_write_the_same_files(
    call: Call,
    told: str,
    tmp_path: Path,
    database: str,
    gain: float | None,
    number: str,
    description: str,
) -> None:
    """Whatever the ledger's engine gives back of a number."""
    work = "{}" if gain is None else f"{{dose_gain: {gain}}}"
    rules = f"rules:\n- denoise: {work}\n"
    node = node_of(tmp_path, {"name": told}, rules, database=database)
    node.arrive_series(slices=3)
    job, by_node = denoise(node, START + 20)
    node.ledger.close()
    report = json.loads((node.settings.reports_folder / f"{job.token}.json").read_text())
    assert (job.dose_gain, report["dose_gain"]) == (gain, float(number))
    (tmp_path / "scan").rename(tmp_path / "in")
    config = configure(tmp_path, {"name": told}, rules)
    code, out, _ = call("denoise", tmp_path / "in", tmp_path / "out", "-c", config, "--json")
    assert (code, json.loads(out)[0]["report"]["dose_gain"]) == (0, float(number))
    by_command = sorted((tmp_path / "out").glob("*.dcm"))
    assert [path.read_bytes() for path in by_node] == [path.read_bytes() for path in by_command]
    assert len(by_node) == 3
    for image in map(dcmread, by_node):
        assert image.SeriesDescription == description
        assert f"strength 1, dose gain {number}, 1 steps" in image.DerivationDescription


def test_only_another_gain_makes_another_series(call: Call, told: str, tmp_path: Path) -> None:
    make_series(tmp_path / "in", slices=1)
    seen = {}
    for gain in ("1", "4", "4.5", ""):
        words = ["--dose-gain", gain] if gain else []
        out = tmp_path / f"out-{gain}"
        ended = call("denoise", tmp_path / "in", out, "--model", told, "--guard", "flag", *words)
        assert ended[0] == 0, ended
        image = dcmread(out / "0001.dcm")
        seen[gain] = (image.SeriesInstanceUID, image.SOPInstanceUID, image.PixelData)
    assert seen[""] == seen["4"]
    assert [len({values[part] for values in seen.values()}) for part in range(3)] == [3, 3, 3]


def test_the_command_line_takes_precedence_over_settings_and_rules(
    call: Call, told: str, tmp_path: Path
) -> None:
    make_series(tmp_path / "in", slices=1)
    config = configure(tmp_path, {"name": told, "dose_gain": 8})
    numbers = count()

    def left(*words: str) -> float | None:
        folder = tmp_path / f"out-{next(numbers)}"
        code, out, err = call("denoise", tmp_path / "in", folder, "-c", config, "--json", *words)
        assert code == 0, err
        gain: float | None = json.loads(out)[0]["report"]["dose_gain"]
        return gain

    assert left() == 8
    assert left("--dose-gain", "2") == 2
    (config.parent / "rules.yaml").write_text("rules:\n- denoise: {dose_gain: 16}\n")
    assert left() == 16
    assert left("--dose-gain", "2") == 2
    assert left("--target-noise-hu", "1000") == 1
    (config.parent / "rules.yaml").write_text("rules:\n- denoise: {model: identity}\n")
    assert left() is None
    (config.parent / "rules.yaml").write_text(
        f"rules:\n- denoise: {{model: {tmp_path}/models/told.json, dose_gain: 16}}\n"
    )
    assert left("--model", "identity") is None


@pytest.mark.parametrize("wanted", ["dose_gain: 3", "target_noise_hu: 5"])
def test_a_model_of_the_command_line_does_not_get_the_noise_beside_another(
    call: Call, told: str, tmp_path: Path, wanted: str
) -> None:
    """A rule without a model means that of node.yaml."""
    make_series(tmp_path / "in", slices=1)
    config = configure(tmp_path, {"name": told}, f"rules:\n- denoise: {{{wanted}}}\n")
    options = ("-c", config, "--json", "--model")
    code, out, err = call("denoise", tmp_path / "in", tmp_path / "same", *options, "identity")
    assert code == 0, err
    report = json.loads(out)[0]["report"]
    assert (report["dose_gain"], report["target_noise_hu"]) == (None, None)
    code, out, err = call("denoise", tmp_path / "in", tmp_path / "out", *options, told)
    assert code == 0, err
    report = json.loads(out)[0]["report"]
    assert report["dose_gain"] not in (None, 4)  # the model that the rule means


@pytest.mark.parametrize("noise", ["inf", "nan", "0.5"])
def test_a_noise_that_is_no_number_of_hu_is_refused(
    call: Call, told: str, tmp_path: Path, noise: str
) -> None:
    make_series(tmp_path / "in", slices=1)
    words = ("denoise", tmp_path / "in", tmp_path / "out", "--model", told)
    code, _, err = call(*words, "--target-noise-hu", noise)
    assert (code, "--target-noise-hu" in err) == (2, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["option", "settings"])
def test_a_model_that_is_not_told_a_gain_is_refused_one(
    call: Call, tmp_path: Path, where: str
) -> None:
    make_series(tmp_path / "in", slices=1)
    config = configure(
        tmp_path, {"name": "identity", **({"dose_gain": 4} if where == "settings" else {})}
    )
    words = ["--dose-gain", "4"] if where == "option" else []
    code, _, err = call("denoise", tmp_path / "in", tmp_path / "out", "-c", config, *words)
    assert (code, CANNOT in err) == (2, True)
    assert "Model 'identity'" in err
    assert list((tmp_path / "out").rglob("*")) == []


@pytest.mark.parametrize("gain", ["0.5", "65", "nan", "x"])
def test_a_gain_out_of_range_is_refused(call: Call, told: str, tmp_path: Path, gain: str) -> None:
    make_series(tmp_path / "in", slices=1)
    folders = (tmp_path / "in", tmp_path / "out")
    assert call("denoise", *folders, "--model", told, "--dose-gain", gain)[0] == 2
    config = configure(tmp_path, {"name": told, "dose_gain": gain})
    code, _, err = call("denoise", *folders, "-c", config)
    assert (code, "model.dose_gain" in err) == (2, True)
    assert not (tmp_path / "out").exists()


def test_the_check_says_which_gain_cannot_be_told_and_where(call: Call, tmp_path: Path) -> None:
    rules = "rules:\n- name: loud\n  denoise:\n    dose_gain: 8\n"
    config = configure(tmp_path, {"name": "identity", "dose_gain": 4}, rules)
    code, out, _ = call("check", "-c", config, "--json")
    told = {item["what"]: (item["verdict"], item["detail"]) for item in json.loads(out)}
    assert code != 0
    verdict, detail = told["rules"]
    assert verdict == "failed"
    assert detail.startswith("rules.yaml line 4: rule 1: 'denoise.dose_gain' is wrong: Model")
    assert CANNOT in detail
    verdict, detail = told["model"]
    assert (verdict, CANNOT in detail) == ("failed", True)


def test_rules_test_and_jobs_show_the_gain(call: Call, told: str, tmp_path: Path) -> None:
    (file,) = make_series(tmp_path / "in", slices=1)
    rules = "rules:\n- denoise: {dose_gain: 8}\n"
    config = configure(tmp_path, {"name": told}, rules)
    told_words = call("rules", "test", file, "-c", config)[1]
    assert f"denoise by {told}, strength 1, dose gain 8, to pacs, normal" in told_words
    (series,) = json.loads(call("rules", "test", file, "-c", config, "--json")[1])
    assert series["denoise"]["dose_gain"] == 8
    assert "dose gain 8" in call("rules", "check", "-c", config)[1]
    (tmp_path / "other.yaml").write_text("rules:\n- denoise: {target_noise_hu: 12}\n")
    other = ("rules", "test", file, "-c", config, "--rules", tmp_path / "other.yaml")
    assert "strength 1, noise 12 HU, to pacs" in call(*other)[1]
    node = node_of(config.parent, {"name": told}, rules)
    node.arrive_files([file])
    job, _ = denoise(node, START + 20)
    node.ledger.close()
    shown = json.loads(call("jobs", "show", str(job.id), "-c", config, "--json")[1])
    assert (shown["strength"], shown["dose_gain"]) == (1.0, 8.0)
    (listed,) = json.loads(call("jobs", "list", "-c", config, "--json")[1])
    assert listed["dose_gain"] == 8.0
    assert "dose_gain" in call("jobs", "show", str(job.id), "-c", config)[1]


def test_the_gain_follows_from_the_noise_that_is_wanted(
    call: Call, told: str, tmp_path: Path, database: str
) -> None:
    """Once for a series: late slices and repetitions get the first one's, and the command too."""
    rules = "rules:\n- denoise: {target_noise_hu: 10}\n"
    files = make_series(tmp_path / "in", slices=5, noise_hu=20.0)
    node = node_of(tmp_path, {"name": told}, rules, database=database)
    node.arrive_files(files[:4], START)
    first, by_node = denoise(node, START + 20)
    report = json.loads((node.settings.reports_folder / f"{first.token}.json").read_text())
    gain = report["dose_gain"]
    assert gain == pytest.approx((report["noise_before_hu"] / 10) ** 2, rel=0.05)
    assert 2 < gain < 6
    assert (report["target_noise_hu"], first.target_noise_hu) == (10, 10)
    assert (first.dose_gain, first.measured_gain) == (None, gain)
    config = configure(tmp_path, {"name": told}, rules)
    (tmp_path / "early").mkdir()
    for file in files[:4]:
        (tmp_path / "early" / file.name).write_bytes(file.read_bytes())
    assert call("denoise", tmp_path / "early", tmp_path / "out", "-c", config)[0] == 0
    by_command = sorted((tmp_path / "out").glob("*.dcm"))
    assert [path.read_bytes() for path in by_node] == [path.read_bytes() for path in by_command]
    image = dcmread(by_node[0])
    assert f"dose gain {gain:g}, " in image.DerivationDescription
    assert image.SeriesDescription == f"Phantom MAN dose x{gain:g}"

    louder = dcmread(files[4])
    noise = np.random.default_rng(1).integers(0, 900, louder.pixel_array.shape)
    louder.PixelData = (louder.pixel_array // 2 + noise).astype(np.uint16).tobytes()
    louder.save_as(files[4])
    node.arrive_files(files[4:], START + 1000)
    late, (by_late,) = denoise(node, START + 1020)
    node.ledger.close()
    assert late.measured_gain == gain
    out = call("denoise", files[4], tmp_path / "alone", "-c", config, "--json")[1]
    assert json.loads(out)[0]["report"]["dose_gain"] > gain  # what its own noise would give
    assert dcmread(by_late).SeriesInstanceUID == image.SeriesInstanceUID


def test_a_series_without_soft_tissue_gets_the_default(
    call: Call, told: str, tmp_path: Path
) -> None:
    make_series(tmp_path / "in", hu=np.full((2, 64, 64), -900.0))
    words = ("--model", told, "--guard", "flag", "--json")
    for noise, gain in (("10", 4.0), ("1000", 4.0)):
        ended = call(
            "denoise", tmp_path / "in", tmp_path / "out", "--target-noise-hu", noise, *words
        )
        assert json.loads(ended[1])[0]["report"]["dose_gain"] == gain


def test_gain_and_noise_are_not_asked_for_together(call: Call, told: str, tmp_path: Path) -> None:
    make_series(tmp_path / "in", slices=1)
    folders = (tmp_path / "in", tmp_path / "out")
    both = ("--dose-gain", "2", "--target-noise-hu", "10")
    code, _, err = call("denoise", *folders, "--model", told, *both)
    assert (code, "Give either --dose-gain or --target-noise-hu" in err) == (2, True)
    config = configure(tmp_path, {"name": told, "dose_gain": 2, "target_noise_hu": 10})
    code, _, err = call("denoise", *folders, "-c", config)
    assert (code, "give either `dose_gain` or `target_noise_hu`" in err) == (2, True)
    config = configure(tmp_path, {"name": "identity", "target_noise_hu": 10})
    code, _, err = call("denoise", *folders, "-c", config)
    assert (code, CANNOT in err) == (2, True)


def test_late_slices_join_results_of_the_same_gain_only(told: str, tmp_path: Path) -> None:
    files = make_series(tmp_path / "scan", slices=6)
    node = node_of(tmp_path, {"name": told}, "rules:\n- denoise: {dose_gain: 8}\n")

    def series_uids(arriving: list[Path], now: float) -> list[str]:
        node.arrive_files(arriving, now)
        return [dcmread(path).SeriesInstanceUID for path in denoise(node, now + 20)[1]]

    first = series_uids(files[:4], START)
    joining = series_uids(files[4:5], START + 1000)
    (tmp_path / "rules.yaml").write_text("rules:\n- denoise: {dose_gain: 2}\n")
    other = series_uids(files[5:], START + 2000)
    node.ledger.close()
    assert [len(first), len(joining), len(other)] == [4, 1, 6]
    assert joining == first[:1]
    assert set(other).isdisjoint(first)

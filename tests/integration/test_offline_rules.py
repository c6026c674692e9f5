"""``denoise -c``: offline the site's rules decide as they do in the node, with the same UIDs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydicom import Dataset, dcmread
from support.ct_factory import make_series
from support.ledger_factory import START, House, NodeFixture
from support.peers import Ports, node_settings

from dicom_node.cli import main
from dicom_node.denoising.models import ModelDenoise
from dicom_node.denoising.worker import Worker
from dicom_node.ledger.operations import list_jobs

Call = Callable[..., tuple[int, str, str]]

RULES = """
rules:
- name: no heads
  match: {BodyPartExamined: HEAD}
  skip: heads stay as they are
- name: emergency
  source_ae: CT_ER
  denoise: {strength: 0.25}
- name: with holes
  match: {SeriesDescription: {matches: hole}}
  denoise: {incomplete: denoise}
- name: thin
  match: {SliceThickness: {at_most: 2.5}}
  denoise: {model: identity, strength: 0.5, destinations: pacs}
"""


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dicom-node", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "rules.yaml").write_text(RULES)
    settings = {
        **node_settings(Ports()),
        "model": {"name": "identity", "device": "cpu"},
        "rules": str(tmp_path / "rules.yaml"),
        "derived": {"description_suffix": " {model} {strength}"},
    }
    file = tmp_path / "node.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def outcome(call: Call, folder: Path, *words: str | Path) -> dict[str, Any]:
    code, out, err = call("denoise", folder / "in", folder / "out", "--json", *words)
    assert "Traceback" not in err
    (series,) = json.loads(out)
    assert code == (0 if series["destination"] else 1)
    return dict(series)


def derived(folder: Path) -> list[Dataset]:
    return [dcmread(path) for path in sorted((folder / "out").rglob("*.dcm"))]


def test_a_rule_decides_the_strength_and_is_named(call: Call, config: Path, tmp_path: Path) -> None:
    make_series(tmp_path / "in")
    series = outcome(call, tmp_path, "-c", config)
    assert (series["rule"], series["report"]["strength"]) == ("thin", 0.5)
    for image in derived(tmp_path):
        assert image.SeriesDescription == "Phantom identity 0.5"
        assert "strength 0.5" in image.DerivationDescription


@pytest.mark.parametrize("strength", [1.0, 0.5, 0.0])
def test_the_node_and_the_command_write_the_same_files(
    call: Call, config: Path, tmp_path: Path, database: str, strength: float
) -> None:
    """Whatever the ledger's engine gives back of a number."""
    (tmp_path / "rules.yaml").write_text(f"rules:\n- denoise: {{strength: {strength}}}\n")
    node = NodeFixture(
        tmp_path,
        database=database,
        rules=tmp_path / "rules.yaml",
        derived={"description_suffix": " {model} {strength}"},
    )
    node.arrive_series(slices=3)
    House(node).complete_series(START + 20)
    reports = node.settings.reports_folder
    denoise = ModelDenoise(node.settings)
    retry = node.settings.retry
    worker = Worker(node.ledger, node.inbox, node.outbox, reports, denoise, retry)
    assert worker.work_once(lambda: False)
    (job,) = list_jobs(node.ledger)
    node.ledger.close()
    (tmp_path / "scan").rename(tmp_path / "in")
    assert call("denoise", tmp_path / "in", tmp_path / "out", "-c", config)[0] == 0
    by_node = [path.read_bytes() for path in node.outbox.committed(job.token)]
    by_command = [path.read_bytes() for path in sorted((tmp_path / "out").glob("*.dcm"))]
    assert len(by_node) == 3
    assert by_node == by_command


def test_a_rule_skips_with_its_reason(call: Call, config: Path, tmp_path: Path) -> None:
    def head(dataset: Dataset) -> None:
        dataset.BodyPartExamined = "HEAD"

    make_series(tmp_path / "in", change=head)
    series = outcome(call, tmp_path, "-c", config)
    assert (series["rule"], series["skipped"]) == ("no heads", "heads stay as they are")
    assert derived(tmp_path) == []
    code, _, err = call("denoise", tmp_path / "in", tmp_path / "out", "-c", config)
    assert code == 1
    assert "skipped, heads stay as they are (rule 'no heads')." in err


def test_the_sender_that_rules_look_at_can_be_named(
    call: Call, config: Path, tmp_path: Path
) -> None:
    make_series(tmp_path / "in")
    series = outcome(call, tmp_path, "-c", config, "--source-ae", "CT_ER")
    assert (series["rule"], series["report"]["strength"]) == ("emergency", 0.25)


def test_options_of_the_command_line_override_the_rules(
    call: Call, config: Path, tmp_path: Path
) -> None:
    make_series(tmp_path / "in")
    series = outcome(call, tmp_path, "-c", config, "--strength", "0.75")
    assert (series["rule"], series["report"]["strength"]) == ("thin", 0.75)


def test_a_rule_names_the_model_unless_the_command_line_does(
    call: Call, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from man_core import load_denoiser

    asked: list[str] = []

    def load(name: str, **options: Any) -> object:
        asked.append(name)
        return load_denoiser("identity")

    monkeypatch.setattr("man_core.load_denoiser", load)
    config.write_text(config.read_text().replace("name: identity", "name: man"))
    make_series(tmp_path / "in")
    outcome(call, tmp_path, "-c", config)
    assert asked == ["man", "identity"]
    asked.clear()
    outcome(call, tmp_path, "-c", config, "--model", "man")
    assert asked == ["man"]


def test_a_rule_takes_what_is_there_of_a_series_with_a_hole(
    call: Call, config: Path, tmp_path: Path
) -> None:
    make_series(tmp_path / "in", slices=7, description="hole")[3].unlink()
    series = outcome(call, tmp_path, "-c", config)
    assert (series["rule"], series["report"]["missing"]) == (
        "with holes", "1 slice is missing between images 3 and 5",
    )  # fmt: skip


def test_without_a_configuration_there_are_no_rules(
    call: Call, config: Path, tmp_path: Path
) -> None:
    make_series(tmp_path / "in")
    series = outcome(call, tmp_path, "--model", "identity")
    assert (series["rule"], series["report"]["strength"]) == (None, 1.0)


def test_rules_with_mistakes_stop_the_command(call: Call, config: Path, tmp_path: Path) -> None:
    make_series(tmp_path / "in")
    (tmp_path / "rules.yaml").write_text("rules:\n- skip: a\n  denoise:\n")
    code, _, err = call("denoise", tmp_path / "in", tmp_path / "out", "-c", config)
    assert code == 2
    assert "rules.yaml line 2" in err


def test_two_patients_in_one_series_are_refused_offline(call: Call, tmp_path: Path) -> None:
    files = make_series(tmp_path / "in", slices=6)
    dataset = dcmread(files[3])
    dataset.PatientID, dataset.PatientName = "PAT-B", "BETA^ANNA"
    dataset.save_as(files[3])
    series = outcome(call, tmp_path, "--model", "identity")
    assert "several patients" in series["error"]
    assert "PAT-B" not in json.dumps(series)
    assert derived(tmp_path) == []

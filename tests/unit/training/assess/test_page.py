"""An assessment as files: one JSON, one page, one figure."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support.ct_factory import make_series
from support.told_model import write_told_model

from dicom_node.product import PRODUCT_VERSION
from training.assess import page, phantom
from training.assess import sweep as sweep_module
from training.assess.finding import Finding, Limit
from training.assess.page import Circumstances, Extent, save_assessment
from training.assess.protocol import Assessment
from training.assess.sweep import Sweep, SweepPoint, SweptRow
from training.cli import main

AROUND = Circumstances(
    "validation", False, 2, 1, Extent(0.25, 4, 40, 0, True), "a machine", "2026-11-28"
)


def swept() -> Sweep:
    rows = [
        SweptRow(name, (SweepPoint(name, "", 20.0, left, 30.0, 0.9, 2),), 0.0)
        for name, left in (("low dose", 1.0), ("model", 0.5), ("other", 0.6))
    ]
    return Sweep("validation", rows[0], rows[1], (), (rows[2],))


def assessment(value: float = 2.0, sweep: Sweep | None = None) -> Assessment:
    found = Finding("HU bias, bone", "validation", value, 0.5, Limit(-1.0, 1.0), "a note")
    return Assessment("model", "abcdef0123456789", "ddim", 1, (found,), sweep)


def test_json_says_what_was_measured_with_what_on_what(tmp_path: Path) -> None:
    names = [path.name for path in save_assessment(assessment(), AROUND, tmp_path)]
    assert names == ["assessment.json", "assessment.md"]
    facts = json.loads((tmp_path / "assessment.json").read_text(encoding="utf-8"))
    assert (facts["format"], facts["version"]) == (page.FORMAT, PRODUCT_VERSION)
    assert (facts["model"], facts["weights_sha256"]) == ("model", "abcdef0123456789")
    assert (facts["date"], facts["hardware"]) == ("2026-11-28", "a machine")
    assert facts["data"] == {
        "split": "validation",
        "real": False,
        "series": 2,
        "patients": 1,
        "window_hu": [-160.0, 240.0],
        "dose": 0.25,
        "slices": 4,
        "lesions": 40,
        "pairs": 0,
        "phantom": True,
    }
    assert (facts["passed"], facts["sweep"]) == (False, None)


def test_the_page_names_the_json_and_every_broken_limit(tmp_path: Path) -> None:
    save_assessment(assessment(sweep=swept()), AROUND, tmp_path)
    text = (tmp_path / "assessment.md").read_text(encoding="utf-8")
    assert "[assessment.json](assessment.json)" in text
    assert "Broken: 1 of 1 limits." in text
    assert "- HU bias, bone (validation)\n" in text
    assert "| HU bias, bone | 0.50 | 2.00 |  | ±1 | BROKEN | a note |" in text
    assert "(noise-sweep.png)" in text
    assert (tmp_path / "noise-sweep.png").read_bytes().startswith(b"\x89PNG")


def test_the_points_of_the_sweep_are_in_the_json(tmp_path: Path) -> None:
    save_assessment(assessment(sweep=swept()), AROUND, tmp_path)
    facts = json.loads((tmp_path / "assessment.json").read_text(encoding="utf-8"))
    assert [(p["row"], p["noise_hu"], p["noise_left"]) for p in facts["sweep"]] == [
        ("low dose", 20.0, 1.0),
        ("model", 20.0, 0.5),
        ("other", 20.0, 0.6),
    ]


def test_files_replace_earlier_ones_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_assessment(assessment(2.0), AROUND, tmp_path)
    before = (tmp_path / "assessment.json").read_bytes()

    def full_disk(_self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full_disk)
        with pytest.raises(OSError, match="No space"):
            save_assessment(assessment(3.0), AROUND, tmp_path)
    assert (tmp_path / "assessment.json").read_bytes() == before
    save_assessment(assessment(3.0, swept()), AROUND, tmp_path)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["assessment.json", "assessment.md", "noise-sweep.png"]


def man_train(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["man-train", *map(str, words)])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_one_command_writes_all_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(phantom, "REALISATIONS", 4)
    monkeypatch.setattr(sweep_module, "TV_WEIGHTS", (0.7,))
    make_series(tmp_path / "full", 2, 96, noise_hu=10)
    card, out = write_told_model(tmp_path / "model"), tmp_path / "out" / "told"
    words = ("assess", card, "--data", tmp_path / "full", "--out", out, "--no-phantom", "--json")
    extent = ("--pairs", 8, "--trials", 2, "--slices", 1, "--device", "cpu")
    dials = ("--gain", 2, "--strength", 0.5, "--beside", "identity")
    assert man_train(monkeypatch, *words, *extent, *dials) == 0
    told = json.loads(capsys.readouterr().out)
    facts = json.loads((out / "assessment.json").read_text(encoding="utf-8"))
    assert facts["findings"] == told["findings"]
    assert facts["weights_sha256"] == told["weights_sha256"] != ""
    assert (facts["data"]["slices"], facts["data"]["lesions"]) == (1, 2)
    assert list(dict.fromkeys(point["row"] for point in facts["sweep"])) == [
        "low dose",
        "told",
        "told, strength 0.5",
        "told, gain 2",
        "identity",
        "total variation, best weight",
    ]
    quantities = {found["quantity"] for found in facts["findings"]}
    assert {"share of patches flagged", "rise of noise left with loudness"} <= quantities
    assert (out / "noise-sweep.png").is_file()


def test_a_gain_is_refused_for_a_model_that_cannot_be_told_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_series(tmp_path, 1, 64, noise_hu=10)
    assert man_train(monkeypatch, "assess", "identity", "--data", tmp_path, "--gain", 2) == 2
    assert "cannot be told a dose gain" in capsys.readouterr().err

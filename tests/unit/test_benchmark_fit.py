"""The benchmark of fitting compares two checkouts; here one with itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.fit import BEFORE, NOW, main
from benchmarks.machine import REPOSITORY


def test_two_checkouts_fit_the_same_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    words = ["--recipe", "redcnn-tiny", "--device", "cpu", "--steps", "4", "--rounds", "1"]
    words += ["--pixels", "64", "--before", str(REPOSITORY), "--json", str(figures)]
    main(words)
    runs = json.loads(figures.read_text(encoding="utf-8"))["runs"]
    assert [run["code"] for run in runs] == [BEFORE, NOW]
    assert all(run["seconds"] > 0 and run["processor"] > 0 for run in runs)
    assert "÷ before" in capsys.readouterr().out

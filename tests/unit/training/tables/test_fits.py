"""Tables that fit what is missing: once, resumable, within the time given, and with its cost."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.commands import man_train
from support.ct_factory import make_series

from training.errors import TrainingError
from training.fit.loop import OnStep
from training.tables.file import MethodSettings, RowFit, TableFile
from training.tables.fits import RECORD_FILE, FitPlan, fit_facts, fit_missing, runs_of

RECIPE = "redcnn-tiny"
STEPS = 20

TABLE: dict[str, Any] = {
    "title": "A fitted table",
    "split": "validation",
    "variables": {"SET": {"about": "set"}, "PAIRS": {"about": "pairs"}, "RED": {"about": "run"}},
    "cases": [{"name": "p", "low": "${PAIRS}/low", "full": "${PAIRS}/full", "doses": [0.25]}],
    "methods": [{"row": "RED CNN/1", "model": "${RED}", "fit": {"recipe": RECIPE}}],
}


def record(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / RECORD_FILE).read_text(encoding="utf-8"))
    return found


def row(name: str, runs: Path, data: Path, recipe: str = RECIPE) -> MethodSettings:
    fit = RowFit(recipe=recipe, data=str(data))
    return MethodSettings(row=name, model=str(runs / name), fit=fit)


@contextmanager
def quiet(_title: str) -> Iterator[OnStep | None]:
    yield None


@contextmanager
def torn(_title: str) -> Iterator[Callable[[int, float, dict[str, float]], None]]:
    def on_step(step: int, _progress: float, _scalars: dict[str, float]) -> None:
        if step == STEPS // 2:
            raise ConnectionError("pulled out")

    yield on_step


def test_a_table_fits_its_row_once_and_says_what_it_cost(
    small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_series(tmp_path / "low", 1, 64, study="a", series_number=2, noise_hu=40, seed=1)
    make_series(tmp_path / "full", 1, 64, study="a", series_number=1, noise_hu=10)
    file, out, runs = tmp_path / "fitted.yaml", tmp_path / "out", tmp_path / "runs"
    file.write_text(yaml.safe_dump(TABLE), encoding="utf-8")
    command = ("table", file, "--set", f"PAIRS={tmp_path}", "--out", out, "--device", "cpu")
    assert man_train(*command) == 2
    assert "needs RED (run); give --set RED" in capsys.readouterr().err

    fitted = (*command, "--set", f"SET={small_set}", "--fit", runs, "--max-minutes", "5")
    assert man_train(*fitted) == 0
    run = runs / "RED-CNN-1"
    assert (record(run)["minutes"], record(run)["finished"]) == (5.0, True)
    checkpoints = {path.name: path.stat().st_mtime_ns for path in (run / "checkpoints").iterdir()}
    facts = json.loads((out / "fitted.json").read_text(encoding="utf-8"))["fits"]
    assert [(one["row"], one["method"], one["steps"]) for one in facts] == [
        ("RED CNN/1", "redcnn", STEPS)
    ]
    assert "## Fits behind the rows" in (out / "fitted.md").read_text(encoding="utf-8")
    with (out / "fitted.csv").open(encoding="utf-8", newline="") as lines:
        line = list(csv.DictReader(lines))[1]
    assert (line["fit_steps"], line["fit_hardware"]) == (str(STEPS), facts[0]["hardware"])
    assert not any(str(tmp_path) in path.read_text("utf-8") for path in out.glob("fitted.[jmct]*"))

    assert man_train(*fitted, "--resume") == 0
    again = {path.name: path.stat().st_mtime_ns for path in (run / "checkpoints").iterdir()}
    assert again == checkpoints


def test_an_interrupted_fit_goes_on_with_the_share_that_it_began_with(
    small_set: Path, tmp_path: Path
) -> None:
    rows = [row("a", tmp_path, small_set), row("b", tmp_path, small_set)]
    plan = FitPlan(tmp_path, max_minutes=8.0, device="cpu")
    with pytest.raises(ConnectionError):
        fit_missing(rows, plan, torn)
    assert (record(tmp_path / "a")["minutes"], record(tmp_path / "a")["finished"]) == (4.0, False)
    assert not (tmp_path / "b").exists()

    fit_missing(rows, FitPlan(tmp_path, max_minutes=1.0, device="cpu"), quiet)
    assert (record(tmp_path / "a")["minutes"], record(tmp_path / "a")["finished"]) == (4.0, True)
    left = record(tmp_path / "b")["minutes"]
    assert 0.5 < left <= 1.0, "b has what a left, which is more than half"
    facts = list(fit_facts(rows))
    assert [(one.row, one.steps) for one in facts] == [("a", STEPS), ("b", STEPS)]
    assert all(one.hours > 0 for one in facts)


def test_a_run_of_another_recipe_is_not_continued(small_set: Path, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        fit_missing([row("a", tmp_path, small_set)], FitPlan(tmp_path, device="cpu"), torn)
    with pytest.raises(TrainingError, match="begun from another recipe or start"):
        fit_missing([row("a", tmp_path, small_set, "redcnn")], FitPlan(tmp_path), quiet)


def test_what_is_given_is_not_fitted(tmp_path: Path) -> None:
    table = TableFile.model_validate(TABLE)
    assert runs_of(table, {}, tmp_path) == {"RED CNN/1": tmp_path / "RED-CNN-1"}
    assert runs_of(table, {"RED": "elsewhere"}, tmp_path) == {}

"""The benchmark of fitting compares two checkouts; here one with itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.fit import BEFORE, NOW, main, parsed, warm_steps, write_recipe
from benchmarks.machine import REPOSITORY
from training.fit.loop import MAX_STEPS_AHEAD
from training.settings import load_recipe


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


@pytest.mark.parametrize("steps", [2, 30, 80])
def test_a_gpu_has_done_the_warm_steps_and_no_others_when_the_clock_starts(
    steps: int, tmp_path: Path
) -> None:
    options = parsed(["--recipe", "redcnn-tiny", "--steps", str(steps)])
    journal = load_recipe(str(write_recipe(options, tmp_path / "recipe.yaml"))).journal
    warm = warm_steps(steps)
    assert warm % journal.log_every == 0 or warm % MAX_STEPS_AHEAD == 0  # read at that step
    assert 0 < warm < steps


def test_a_folder_without_the_product_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--before", str(tmp_path)])
    assert "not a source tree" in capsys.readouterr().err

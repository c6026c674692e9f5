from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.line_task import LineTask, Numbers
from torch import Tensor, nn

from training.data.batch import Batch
from training.errors import RecipeError, TrainingError
from training.fit.ema import Ema
from training.fit.journal import Journal
from training.fit.loop import Fit
from training.fit.schedule import Budget, learning_rate
from training.fit.state import load_state, save_state
from training.fit.task import Moment
from training.settings import FitSettings, Recipe, load_recipe, recipe_folder


class Line(LineTask):
    """Its loss draws random numbers and is spoiled from a step on."""

    def __init__(self, bad_from: int = 10**9) -> None:
        super().__init__()
        self.bad_from = bad_from

    def loss(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        x = batch.full.flatten()[:, None]
        noise = torch.randn(x.shape, generator=moment.generator) + 0.1 * torch.rand(x.shape)
        loss = (self.model(x + 0.1 * noise) - 2 * x).square().mean()
        return {"loss": loss * (math.nan if moment.step >= self.bad_from else 1)}


def recipe_of(**fit: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "method": "line",
            "fit": {"steps": 20, "warmup_steps": 2, "learning_rate": 0.05, "ema": 0.9, **fit},
            "validation": {"every": 10},
            "journal": {"log_every": 5},
        }
    )


def fit_of(run: Path, task: Line, steps: int = 20, **fit: Any) -> Fit:
    run.mkdir(exist_ok=True)
    return Fit(recipe_of(**fit), task, run, Budget(steps), Numbers(), [Numbers().batch(-1)])


def finish(fit: Fit) -> Fit:
    with Journal(fit.run) as journal:
        fit.train(journal)
    return fit


def test_an_interrupted_fit_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = fit_of(tmp_path / "whole", Line())
    whole.start()
    finish(whole)

    first = fit_of(tmp_path / "parts", Line())
    first.start()
    with Journal(first.run) as journal:
        first.train(journal, lambda step, _progress, _scalars: first.stop() if step == 7 else None)
    second = fit_of(tmp_path / "parts", Line())
    second.resume()
    assert (second.step, second.task.started) == (7, 0)  # type: ignore[attr-defined]
    finish(second)

    ends = [load_state(fit.run) for fit in (whole, second)]
    for part in ("task", "averaged"):
        values = [end[part]["model"]["weight"] for end in ends if end]
        assert torch.equal(*values)
    assert second.clock.elapsed() >= first.clock.elapsed() > 0


def test_the_journal_holds_fit_and_validation(tmp_path: Path) -> None:
    fit = fit_of(tmp_path / "run", Line())
    fit.start()
    finish(fit)
    lines = [json.loads(text) for text in (fit.run / "metrics.jsonl").read_text().splitlines()]
    fitted = [line for line in lines if line["kind"] == "fit"]
    assert [line["step"] for line in fitted] == [5, 10, 15, 20]
    assert all(line["steps_per_second"] > 0 for line in fitted)
    assert all(0 <= line["data_wait_share"] <= 1 for line in fitted)
    averaged = [line["score"] for line in lines if line["kind"] == "validation"][-1]
    state = load_state(fit.run)
    assert state is not None
    assert averaged == pytest.approx(float(state["averaged"]["model"]["weight"]))
    assert averaged != pytest.approx(float(state["task"]["model"]["weight"]))
    assert (fit.run / "pictures" / "p-00000020.png").is_file()


def test_losses_that_are_not_finite_are_skipped_then_stop_the_fit(tmp_path: Path) -> None:
    task = Line(bad_from=4)
    fit = fit_of(tmp_path / "run", task, bad_steps=3)
    fit.start()
    with pytest.raises(TrainingError, match="step 6"):
        finish(fit)
    assert fit.skipped == 3
    assert torch.isfinite(task.model.weight).all()


def test_accumulated_batches_count_as_one_step(tmp_path: Path) -> None:
    fit = fit_of(tmp_path / "run", Line(), steps=3, accumulate=4)
    fit.start()
    assert finish(fit).step == 3


def test_learning_rate_warms_up_then_falls_to_its_end() -> None:
    fit = FitSettings(steps=100, learning_rate=1.0, last_learning_rate=0.1, warmup_steps=9)
    rates = [learning_rate(fit, step, step / 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(rates[9])
    assert rates[50] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)


def test_progress_is_by_steps_or_by_time() -> None:
    assert Budget(10).progress(5, 1e9) == 0.5
    assert Budget(10, 100.0).progress(1, 50.0) == 0.5
    assert Budget(10, 100.0).progress(9, 50.0) == 0.9
    assert Budget(10, 100.0).progress(20, 500.0) == 1.0


def test_the_average_follows_and_is_swapped_back() -> None:
    weight = nn.Parameter(torch.zeros(1))
    average = Ema([weight], 0.5)
    with torch.no_grad():
        weight.fill_(1.0)
    for _ in range(50):
        average.update([weight])
    torch.testing.assert_close(average.averages[0], torch.ones(1), rtol=1e-6, atol=0)
    with torch.no_grad():
        weight.fill_(9.0)
    with average.in_place([weight]):
        assert weight.item() == pytest.approx(1.0)
    assert weight.item() == 9.0


def test_only_two_checkpoints_are_kept_and_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save_state(tmp_path, step, {"step": step, "values": torch.arange(step)})
    paths = sorted((tmp_path / "checkpoints").iterdir())
    assert [path.name for path in paths] == ["00000002.pt", "00000003.pt"]
    paths[1].write_bytes(b"torn")
    state = load_state(tmp_path)
    assert state is not None
    assert state["step"] == 2
    paths[0].write_bytes(b"torn too")
    with pytest.raises(TrainingError, match="No checkpoint"):
        load_state(tmp_path)


def test_resuming_nothing_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="omit --resume"):
        fit_of(tmp_path / "run", Line()).resume()


@pytest.mark.parametrize("path", sorted(recipe_folder().glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    assert load_recipe(path.stem).fit.steps > 0


def test_all_faults_of_a_recipe_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("method: x\nfit: {steps: 0, speed: 9}\ndata: {crop: 7}\n", encoding="utf-8")
    with pytest.raises(RecipeError) as error:
        load_recipe(str(path))
    for key in ("fit.steps", "fit.speed", "data.crop"):
        assert key in str(error.value)
    with pytest.raises(RecipeError, match="man-autoencoder"):
        load_recipe("unheard-of")

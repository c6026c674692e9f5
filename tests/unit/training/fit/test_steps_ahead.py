"""Steps launched without waiting: the same fit, and no poisoned weights."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.line_task import LineTask, Numbers
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from training.data.batch import Batch
from training.data.dataset import CropSource
from training.errors import TrainingError
from training.fit.journal import Journal
from training.fit.loop import Fit
from training.fit.results import Result, Unread
from training.fit.run import FitOptions, fit
from training.fit.schedule import Budget
from training.fit.state import load_state
from training.fit.task import Moment
from training.fit.tasks.build import build_task
from training.settings import Recipe, load_recipe

CPU = torch.device("cpu")
STEPS = 20
AHEAD = 8  # does not divide the steps


class Line(LineTask):
    """Its loss is spoiled in the steps that ``bad`` names."""

    def __init__(self, bad: Callable[[int], bool] = lambda step: False) -> None:
        super().__init__()
        self.bad = bad

    def loss(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        x = batch.full.flatten()[:, None]
        loss = (self.model(x) - 2 * x).square().mean()
        return {"loss": loss * (math.nan if self.bad(moment.step) else 1), "mean": x.mean()}


def fit_of(run: Path, task: Line, ahead: int, steps: int = STEPS, **journal: Any) -> Fit:
    run.mkdir(exist_ok=True)
    recipe = Recipe.model_validate(
        {
            "method": "line",
            "fit": {"steps": steps, "warmup_steps": 2, "learning_rate": 0.05, "bad_steps": 3},
            "validation": {"every": 10},
            "journal": {"log_every": 5, **journal},
        }
    )
    held_out = [Numbers().batch(-1)]
    return Fit(recipe, task, run, Budget(steps), Numbers(), held_out, steps_ahead=ahead)


def finish(fit: Fit, on_step: Callable[..., None] | None = None) -> list[dict[str, Any]]:
    with Journal(fit.run) as journal:
        fit.train(journal, on_step)
    text = (fit.run / "metrics.jsonl").read_text(encoding="utf-8")
    timed = ("seconds", "steps_per_second", "data_wait_share")
    lines = [json.loads(line) for line in text.splitlines()]
    return [{name: line[name] for name in line if name not in timed} for line in lines]


@pytest.mark.parametrize("bad", [(), (3, 6)])
def test_a_fit_read_late_is_the_fit_read_at_once(tmp_path: Path, bad: tuple[int, ...]) -> None:
    ends, journals, seen = [], [], []
    for ahead in (1, AHEAD):
        fit = fit_of(tmp_path / str(ahead), Line(bad.__contains__), ahead)
        fit.start()
        steps: list[int] = []
        journals.append(finish(fit, lambda step, *_, steps=steps: steps.append(step)))
        seen.append(steps)
        assert fit.skipped == len(bad)
        state = load_state(fit.run)
        assert state is not None
        ends.append(state)
    assert seen == [list(range(1, STEPS + 1))] * 2
    for at_once, late in zip(*journals, strict=True):
        assert late.pop("kind") == at_once.pop("kind")
        if "score" not in late or not bad:  # averages follow in a skipped step, too
            assert late == pytest.approx(at_once, rel=1e-4, nan_ok=True)
    for part in ("task", "averaged") if not bad else ("task",):
        weights = [end[part]["model"]["weight"] for end in ends]
        torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


def test_a_fit_read_late_stops_without_poisoned_weights(tmp_path: Path) -> None:
    task = Line(lambda step: step >= 4)
    fit = fit_of(tmp_path / "run", task, AHEAD, save_seconds=0.0)
    fit.start()
    with pytest.raises(TrainingError, match="step 6"):
        finish(fit)
    assert fit.skipped == 3
    assert torch.isfinite(task.model.weight).all()
    state = load_state(fit.run)
    assert state is not None
    assert all(torch.isfinite(v).all() for v in state["averaged"]["model"].values())


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    task = Line()
    fit = fit_of(tmp_path / "run", task, 1, save_seconds=600.0)
    fit.start()

    def poison(step: int, *_: object) -> None:
        if step == STEPS:
            nn.init.constant_(task.model.weight, math.inf)

    with pytest.raises(TrainingError, match="no checkpoint was written"):
        finish(fit, poison)
    assert [p.name for p in (fit.run / "checkpoints").iterdir()] == ["00000000.pt"]


def test_a_run_goes_on_with_the_other_kind_of_optimiser(tmp_path: Path) -> None:
    first = fit_of(tmp_path / "run", Line(), 1, steps=10)
    first.start()
    finish(first)
    second = fit_of(tmp_path / "run", Line((12).__eq__), AHEAD)
    second.resume()
    finish(second)
    assert (second.step, second.skipped) == (STEPS, 1)
    assert torch.isfinite(second.task.model.weight).all()  # type: ignore[attr-defined]


@pytest.mark.parametrize("save_seconds", [0.0, 600.0])
def test_the_pace_counts_the_time_of_every_launched_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_seconds: float
) -> None:
    seconds = 0.0
    read = Unread.read

    def wait(unread: Unread) -> list[Result]:  # a device that takes a second for each step
        nonlocal seconds
        seconds += len(unread)
        return read(unread)

    monkeypatch.setattr(Unread, "read", wait)
    monkeypatch.setattr("training.fit.pace.time", SimpleNamespace(perf_counter=lambda: seconds))
    fit = fit_of(tmp_path / "run", Line(), AHEAD, steps=13, save_seconds=save_seconds)
    fit.start()
    finish(fit)
    assert fit.pace.in_all()["steps_per_second"] == 1.0


class Calls(TorchDispatchMode):
    """Counts the operations that a GPU would have to wait for."""

    WAITING = ("_local_scalar_dense", "lift_fresh", "nonzero")
    """A value read by the host, a constant copied from it, and a size that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.found.update([name] if name in self.WAITING else [])
        return func(*args, **(kwargs or {}))


def restoring() -> Recipe:
    recipe = load_recipe("man-diffusion-tiny")
    return recipe.model_copy(update={"objective": load_recipe("man-restoration").objective})


RECIPES = pytest.mark.parametrize(
    "recipe",
    [load_recipe("man-autoencoder-tiny"), load_recipe("redcnn-tiny"), restoring()],
    ids=["autoencoder", "redcnn", "restoration"],
)


@RECIPES
def test_nothing_in_a_loss_waits_for_the_device(small_set: Path, recipe: Recipe) -> None:
    task = build_task(recipe, CPU)
    batch = CropSource(small_set, recipe.data, 0, "train").batch(0)
    for step in range(2):
        with Calls() as calls:
            moment = Moment(step, 0.7, torch.Generator().manual_seed(step))
            task.loss(batch, moment)["loss"].backward()  # type: ignore[no-untyped-call]
    assert calls.found == {}  # in the second step, when constants are there


@RECIPES
def test_a_step_calls_every_network_that_can_be_compiled(small_set: Path, recipe: Recipe) -> None:
    task = build_task(recipe, CPU)
    called: set[int] = set()
    for number, network in enumerate(task.networks()):
        network.register_forward_pre_hook(lambda *_, number=number: called.add(number))
    batch = CropSource(small_set, recipe.data, 0, "train").batch(0)
    task.loss(batch, Moment(0, 0.7, torch.Generator().manual_seed(0)))
    assert called == set(range(len(task.networks())))


def test_the_option_to_compile_goes_before_the_recipe(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: compiled.append(self))
    recipe = load_recipe("redcnn-tiny")
    for number, wanted in enumerate((None, True)):
        options = FitOptions(
            small_set, tmp_path / str(number), steps=1, device="cpu", compile=wanted
        )
        fit(recipe, options)
        assert len(compiled) == number

"""What a fit can start from: runs, exported models and the shipped one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from training.errors import TrainingError
from training.fit.state import RECIPE_FILE, save_json, save_state
from training.fit.task import RunFacts
from training.fit.tasks.build import build_task
from training.fit.tasks.initial import initial_weights, load_weights_into
from training.fit.tasks.man_autoencoder import AutoencoderTask
from training.fit.tasks.man_diffusion import DiffusionTask
from training.settings import load_recipe

CPU = torch.device("cpu")


def diffusion_task(seed: int = 0, name: str = "man-diffusion-tiny") -> DiffusionTask:
    recipe = load_recipe(name)
    task = build_task(recipe.model_copy(update={"seed": seed}), CPU)
    assert isinstance(task, DiffusionTask)
    return task


def autoencoder_task(seed: int = 0) -> AutoencoderTask:
    recipe = load_recipe("man-autoencoder-tiny")
    task = build_task(recipe.model_copy(update={"seed": seed}), CPU)
    assert isinstance(task, AutoencoderTask)
    return task


def run_of(folder: Path, task: DiffusionTask | AutoencoderTask, recipe: str) -> Path:
    save_state(folder, 1, {"averaged": task.state_dict()})
    save_json(folder / RECIPE_FILE, load_recipe(recipe).model_dump(mode="json"))
    return folder


@pytest.fixture
def fitted(tmp_path: Path) -> DiffusionTask:
    task = diffusion_task(seed=7)
    task.network.latent_mean.fill_(0.25)
    task.export(tmp_path / "model", RunFacts("set", 1, 1.0, "test"))
    return task


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    values = (module.state_dict() for module in (one, other))
    return all(
        torch.allclose(a, b, atol=1e-3) for a, b in zip(*(v.values() for v in values), strict=True)
    )


@pytest.mark.parametrize("start", ["model", "model/man.json", "run"])
def test_stage_two_starts_from_a_run_and_from_an_exported_model(
    fitted: DiffusionTask, tmp_path: Path, start: str
) -> None:
    run_of(tmp_path / "run", fitted, "man-diffusion-tiny")
    task = diffusion_task()
    assert not same(task.network, fitted.network)
    task.initialise(tmp_path / start)
    assert same(task.network, fitted.network)


@pytest.mark.parametrize("start", ["model", "model/man.json", "run", "stage-one"])
def test_stage_one_takes_its_part(fitted: DiffusionTask, tmp_path: Path, start: str) -> None:
    one = autoencoder_task(seed=9)
    one.model.load_state_dict(fitted.network.autoencoder.state_dict())
    run_of(tmp_path / "run", fitted, "man-diffusion-tiny")
    run_of(tmp_path / "stage-one", one, "man-autoencoder-tiny")
    task = autoencoder_task()
    task.initialise(tmp_path / start)
    assert same(task.model, fitted.network.autoencoder)


def test_the_shipped_model_is_a_start_for_the_shipped_recipe() -> None:
    task = diffusion_task(name="man-diffusion")
    task.initialise(Path("man"))
    assert float(task.network.latent_std.min()) < 1


def test_statistics_of_a_whole_network_are_kept(fitted: DiffusionTask, tmp_path: Path) -> None:
    task = diffusion_task()
    task.initialise(tmp_path / "model")

    class Nothing:
        def batch(self, index: int) -> None:
            raise AssertionError("nothing is to be measured")

    task.start(Nothing())  # type: ignore[arg-type]
    assert float(task.network.latent_mean.mean()) == pytest.approx(0.25)


def test_a_told_network_starts_from_one_that_is_not_told(
    fitted: DiffusionTask, tmp_path: Path
) -> None:
    task = diffusion_task(name="man-gain-tiny")
    fresh = {name: task.network.get_parameter(name) for name in task.network.gain_parameters()}
    task.initialise(tmp_path / "model")
    old = fitted.network.state_dict()
    for name, value in task.network.state_dict().items():
        expected = fresh[name] if name in fresh else old[name]
        torch.testing.assert_close(value, expected, atol=1e-3, rtol=0.0)


def test_another_shape_is_refused_in_one_sentence(fitted: DiffusionTask, tmp_path: Path) -> None:
    task = diffusion_task(name="man-diffusion")
    with pytest.raises(TrainingError, match="another shape than the recipe's"):
        task.initialise(tmp_path / "model")


def test_only_what_is_named_may_start_fresh() -> None:
    module = torch.nn.ModuleDict({"old": torch.nn.Linear(1, 1), "gate": torch.nn.Linear(1, 1)})
    tensors = {"old.weight": torch.ones(1, 1), "old.bias": torch.ones(1)}
    gate = module["gate"].weight.detach().clone()
    with pytest.raises(TrainingError, match="other layers than the recipe's: gate"):
        load_weights_into(module, tensors, "weights")
    load_weights_into(module, tensors, "weights", fresh=("gate.",))
    assert torch.equal(module["gate"].weight, gate)
    with pytest.raises(TrainingError, match="other layers than the recipe's: more"):
        load_weights_into(module, tensors | {"more": torch.ones(1)}, "weights", fresh=("gate.",))


def test_what_holds_no_weights_is_said(tmp_path: Path) -> None:
    for start, words in (
        (tmp_path, "neither a run"),
        (tmp_path / "absent", "There is no model named"),
        (Path("identity"), "is of the method 'identity'"),
    ):
        with pytest.raises(TrainingError, match=words):
            initial_weights(start)


def test_a_run_of_something_else_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path, 1, {"averaged": {"model": {}}})
    recipe = load_recipe("man-diffusion-tiny").model_dump(mode="json") | {"method": "other"}
    (tmp_path / RECIPE_FILE).write_text(json.dumps(recipe), encoding="utf-8")
    with pytest.raises(TrainingError, match="a run of other, not of MAN"):
        initial_weights(tmp_path)

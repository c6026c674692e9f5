"""Every reading of the paper is a switch of the recipe: a tiny network of each fits and samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from man_core import Condition, load_denoiser
from training.data.dataset import CropSource
from training.errors import RecipeError
from training.fit.task import Moment, RunFacts
from training.fit.tasks.build import build_task, man_config
from training.fit.tasks.man_diffusion import DiffusionTask
from training.settings import Recipe, load_recipe, recipe_folder

CPU = torch.device("cpu")
READINGS = sorted(path.stem for path in (recipe_folder() / "ablation").glob("*.yaml"))
TINY: dict[str, Any] = {
    "autoencoder": {"latent": 8, "stem": 4, "channels": [8, 8], "blocks": 1},
    "unet": {
        "latent": 8,
        "channels": [16, 16],
        "attention": [1],
        "context": 16,
        "context_width": 16,
        "heads": 2,
        "time": 16,
    },
}
START = "man-diffusion-tiny"


def tiny(name: str) -> Recipe:
    """The recipe with a tiny network in place of its own; every switch stays."""
    recipe = load_recipe(name)
    model = dict(recipe.model)
    for part, sizes in TINY.items():
        model[part] = {**model.get(part, {}), **sizes}
    data = recipe.data.model_copy(update={"crop": 48, "batch": 2, "untouched_share": 0.0})
    return recipe.model_copy(update={"model": model, "data": data})


def task_of(recipe: Recipe) -> DiffusionTask:
    task = build_task(recipe, CPU)
    assert isinstance(task, DiffusionTask)
    return task


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An exported model of random weights."""
    task = task_of(tiny(START))
    for value in task.network.parameters():
        torch.nn.init.normal_(value, std=0.05)
    return task.export(tmp_path / "start", RunFacts("set", 1, 1.0, "test"))


def stepped(task: DiffusionTask, source: CropSource) -> dict[str, Tensor]:
    """Loss terms of one optimiser step."""
    optimiser = torch.optim.SGD(list(task.parameters()), lr=1e-3)
    moment = Moment(0, 0.0, torch.Generator().manual_seed(0))
    terms = task.loss(source.batch(0), moment)
    terms["loss"].backward()
    optimiser.step()
    return terms


@pytest.mark.parametrize("name", READINGS)
def test_a_reading_fits_a_step_and_samples_finite_values(
    name: str, model: Path, small_set: Path, tmp_path: Path
) -> None:
    recipe = tiny(f"ablation/{name}")
    task = task_of(recipe)
    task.initialise(model)
    source = CropSource(small_set, recipe.data, 0, "train")
    task.start(source)
    before = task.network.unet.conv_out.weight.detach().clone()
    terms = stepped(task, source)
    assert torch.isfinite(terms["loss"])
    assert not torch.equal(before, task.network.unet.conv_out.weight)
    scalars = task.validate([source.batch(1)]).scalars
    assert torch.isfinite(torch.tensor(list(scalars.values()))).all()
    card = task.export(tmp_path / "exported", RunFacts("set", 1, 1.0, "test"))
    hu = torch.full((1, 48, 48), 40.0) + 10 * torch.randn(1, 48, 48)
    denoiser = load_denoiser(str(card), device="cpu", steps=2)
    assert torch.isfinite(denoiser.denoise(hu, Condition(), torch.Generator())).all()


def test_the_readings_differ_in_what_they_are_named_after() -> None:
    configs = {name: man_config(load_recipe(f"ablation/{name}").model) for name in READINGS}
    base = configs["man-base"]
    assert {c.unet.condition for c in configs.values()} == {"xattn", "concat", "both"}
    assert {c.prediction for c in configs.values()} == {"eps", "v", "x0", "residual"}
    assert {c.start for c in configs.values()} == {"noise", "ldct", "matched"}
    assert {c.diffusion for c in configs.values()} == {"cosine", "residual-shift"}
    assert (base.unet.condition, base.prediction, base.start) == ("both", "residual", "noise")
    paper = configs["man-xattn-eps"]
    assert (paper.unet.condition, paper.prediction, paper.start) == ("xattn", "eps", "noise")
    shares = {name: load_recipe(f"ablation/{name}").data.real_share for name in READINGS}
    assert {name for name, share in shares.items() if share} == {"man-real-pairs"}


def test_readings_are_fitted_alike() -> None:
    recipes = [load_recipe(f"ablation/{name}") for name in READINGS]
    assert len({(recipe.seed, recipe.fit.model_dump_json()) for recipe in recipes}) == 1


def test_a_reading_leaves_a_fitted_unet_alone_but_takes_its_autoencoder(model: Path) -> None:
    fresh, taken = task_of(tiny("ablation/man-base")), task_of(tiny(START))
    for task in (fresh, taken):
        task.initialise(model)
    ours, theirs = fresh.network.state_dict(), taken.network.state_dict()
    same = {name: torch.equal(ours[name], theirs[name]) for name in ours}
    assert all(value for name, value in same.items() if name.startswith("autoencoder."))
    assert not same["unet.conv_in.weight"]
    assert not fresh.measured
    assert taken.measured


def test_a_residual_shift_starts_from_a_cosine_model(model: Path, small_set: Path) -> None:
    recipe = tiny("man-residual-shift")
    task = task_of(recipe)
    task.initialise(model)
    assert task.measured
    source = CropSource(small_set, recipe.data, 0, "train")
    first = stepped(task, source)
    second = stepped(task, source)
    assert float(second["loss"].detach()) < float(first["loss"].detach())


@pytest.mark.parametrize(
    "model_part",
    [
        {"prediction": "x1"},
        {"start": "zero"},
        {"unet": {"condition": "film"}},
        {"shift": {"steps": 0}},
    ],
)
def test_a_switch_that_does_not_exist_is_said(model_part: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="The recipe's model is invalid"):
        man_config(model_part)

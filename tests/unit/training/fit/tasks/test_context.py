"""A fit of a network that sees neighbouring slices, and the model that it exports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from man_core import Condition, load_denoiser
from training.data.batch import Batch
from training.errors import RecipeError
from training.fit.task import Moment, RunFacts
from training.fit.tasks.build import build_task
from training.fit.tasks.man_diffusion import DiffusionTask
from training.objectives.lesions import draw_lesions, planted_beside
from training.settings import Recipe, load_recipe

CPU = torch.device("cpu")
FACTS = RunFacts("none", 1, 1.0, "cpu")


def recipe(slices: int, *, of_model: int | None = None, **objective: Any) -> Recipe:
    plain = load_recipe("man-restoration-tiny")
    values = plain.model_dump()
    values["model"]["context_slices"] = slices if of_model is None else of_model
    values["model"]["detail"] = {"channels": 4, "blocks": 1}
    values["data"]["context_slices"] = slices
    values["objective"] |= objective
    return Recipe.model_validate(values)


def task_of(recipe: Recipe) -> DiffusionTask:
    task = build_task(recipe, CPU)
    assert isinstance(task, DiffusionTask)
    return task


@pytest.fixture
def task() -> DiffusionTask:
    task = task_of(recipe(1))
    torch.manual_seed(0)
    for parameter in task.network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return task


def crops(side: int = 48) -> Batch:
    noise = 40.0 * torch.randn(2, 4, side, side, generator=torch.Generator().manual_seed(0))
    low = 50.0 + noise
    return Batch(
        full=torch.full((2, 1, side, side), 50.0),
        low=low[:, :1],
        dose=torch.full((2,), 0.25),
        position=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(2, 1),
        noise_hu=torch.full((2,), 40.0),
        neighbours=low[:, 1:3],
    )


def loss(task: DiffusionTask, batch: Batch) -> torch.Tensor:
    return task.loss(batch, Moment(0, 0.0, torch.Generator().manual_seed(3)))["loss"]


def test_the_loss_trains_what_sees_the_neighbours(task: DiffusionTask) -> None:
    loss(task, crops()).backward()  # type: ignore[no-untyped-call]
    for name in task.network.context_parameters():
        gradient = task.network.get_parameter(name).grad
        assert gradient is not None, name
        assert gradient.abs().sum() > 0, name


def test_the_loss_depends_on_the_neighbours(task: DiffusionTask) -> None:
    batch = crops()
    assert batch.neighbours is not None
    assert loss(task, batch) != loss(task, replace(batch, neighbours=batch.neighbours.flip(2)))


def test_a_fit_goes_on_from_weights_without_neighbours_at_the_same_loss(tmp_path: Path) -> None:
    plain, seeing = task_of(recipe(0)), task_of(recipe(1))
    torch.manual_seed(1)
    for parameter in plain.network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    plain.export(tmp_path, FACTS)
    seeing.initialise(tmp_path)
    same = loss(plain, replace(crops(), neighbours=None))
    torch.testing.assert_close(loss(seeing, crops()), same, rtol=1e-6, atol=0.0)


def test_validation_and_export_see_neighbours(task: DiffusionTask, tmp_path: Path) -> None:
    batch = crops()
    assert batch.neighbours is not None
    turned = replace(batch, neighbours=batch.neighbours.flip(2))
    assert task.validate([batch]).scalars != task.validate([turned]).scalars
    denoiser = load_denoiser(str(task.export(tmp_path, FACTS)), device="cpu")
    assert denoiser.info.context_slices == 1
    hu = torch.cat((batch.low, batch.neighbours), dim=1)
    result = denoiser.denoise(hu, Condition(), torch.Generator().manual_seed(0))
    assert result.shape == (2, 48, 48)
    assert torch.isfinite(result).all()


def test_model_and_data_must_agree() -> None:
    with pytest.raises(RecipeError, match=r"model.context_slices \(0\) and data.context_slices"):
        task_of(recipe(1, of_model=0))


def test_lesions_reach_into_neighbours_by_a_share_and_a_stand_in_shows_them_whole() -> None:
    batch = crops()
    assert batch.neighbours is not None
    lesions = draw_lesions(batch.full, 1, torch.Generator().manual_seed(1))
    beside = torch.cat((batch.neighbours[:, :1], batch.low), dim=1)
    added = planted_beside(beside, batch.low, lesions, torch.Generator().manual_seed(2)) - beside
    torch.testing.assert_close(added[:, 1:], lesions.hu, atol=1e-4, rtol=0)
    peak = lesions.hu.abs().flatten(1).max(dim=1).values
    share = added[:, 0].abs().flatten(1).max(dim=1).values / peak
    assert ((share > 0) & (share < 1)).all()


def test_a_fit_with_lesions_and_neighbours_runs() -> None:
    wanted = recipe(1, lesions=1)
    assert torch.isfinite(loss(task_of(wanted), crops()))

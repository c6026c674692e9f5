"""A fit with dose gain and planted lesions, and the model that it exports."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from man_core import Condition, load_denoiser
from training.data.batch import Batch
from training.fit.task import Moment, RunFacts
from training.fit.tasks.build import build_task
from training.fit.tasks.man_diffusion import DiffusionTask
from training.settings import load_recipe

CPU = torch.device("cpu")


@pytest.fixture
def task() -> DiffusionTask:
    torch.manual_seed(0)
    task = build_task(load_recipe("man-gain-tiny"), CPU)
    assert isinstance(task, DiffusionTask)
    for parameter in task.network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return task


def crops(dose: float, side: int = 48) -> Batch:
    noise = 40.0 * torch.randn(2, 1, side, side, generator=torch.Generator().manual_seed(0))
    full = torch.full_like(noise, 50.0)
    return Batch(
        full=full,
        low=full + noise if dose < 1.0 else full,
        dose=torch.full((2,), dose),
        position=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(2, 1),
        noise_hu=torch.full((2,), 40.0),
    )


def losses(task: DiffusionTask, dose: float) -> dict[str, torch.Tensor]:
    return task.loss(crops(dose), Moment(0, 0.0, torch.Generator().manual_seed(3)))


def test_the_loss_trains_what_takes_the_gain(task: DiffusionTask) -> None:
    losses(task, 0.25)["loss"].backward()
    for name in task.network.gain_parameters():
        gradient = task.network.get_parameter(name).grad
        assert gradient is not None, name
        assert torch.isfinite(gradient).all()
    assert task.network.unet.told.weight.grad.abs().sum() > 0


def test_the_loss_depends_on_the_dose_that_is_told(task: DiffusionTask) -> None:
    batch, moment = crops(0.25), Moment(0, 0.0, torch.Generator().manual_seed(3))
    task.objective = task.objective.model_copy(update={"gain_share": 0.0})
    one = task.loss(batch, moment)["loss"]
    told = Batch(**{**vars(batch), "dose": torch.full((2,), 0.1)})
    other = task.loss(told, Moment(0, 0.0, torch.Generator().manual_seed(3)))["loss"]
    assert not torch.equal(one, other)


def test_lost_contrast_of_planted_lesions_is_a_term(task: DiffusionTask) -> None:
    found = losses(task, 0.25)
    assert float(found["contrast"].detach()) > 0.0
    assert "contrast" not in losses(_without_lesions(task), 0.25)


def _without_lesions(task: DiffusionTask) -> DiffusionTask:
    task.objective = task.objective.model_copy(update={"lesions": 0})
    return task


def test_the_exported_model_can_be_told(task: DiffusionTask, tmp_path: Path) -> None:
    card = task.export(tmp_path, RunFacts("set", 1, 1.0, "test"))
    model = load_denoiser(str(card))
    assert model.info.dose_gain == 4.0
    hu = crops(0.25).low[:, 0]
    results = [
        model.denoise(hu, Condition(dose_gain=gain), torch.Generator().manual_seed(0))
        for gain in (1.0, 8.0)
    ]
    assert not torch.equal(*results)

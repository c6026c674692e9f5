"""RED-CNN and Q-AE through the one loop: fit, resume, export, denoise; and their loss."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from man_core import Condition, ModelCard, Volume, denoise_volume, load_denoiser
from man_core.hu import HuRange
from man_core.nets.redcnn import RedCnn, RedCnnConfig
from training.errors import RecipeError, TrainingError
from training.fit.export import export
from training.fit.run import FitOptions, fit
from training.fit.tasks.build import TASKS, build_task
from training.objectives.regression import RegressionObjective, regression_loss
from training.settings import Recipe, load_recipe, recipe_folder

CPU = torch.device("cpu")


METHODS = ("redcnn", "qae")
"""Methods fitted by their squared error."""


def eager(steps: int, method: str = "redcnn") -> Recipe:
    """The tiny recipe with what shows something in a few steps, and checkpoints at the end only.

    Channels enough that no draw of crops leaves every rectifier silent: with 4 some do.
    """
    recipe = load_recipe(f"{method}-tiny")
    return recipe.model_copy(
        update={
            "model": recipe.model | {"channels": 24},
            "data": recipe.data.model_copy(update={"batch": 8}),
            "fit": recipe.fit.model_copy(update={"steps": steps, "learning_rate": 0.001}),
            "journal": recipe.journal.model_copy(update={"save_seconds": 600.0}),
        }
    )


def fitted(recipe: Recipe, data: Path, run: Path, **options: object) -> Path:
    wanted = FitOptions(data, run, device="cpu", **options)  # type: ignore[arg-type]
    fit(recipe, wanted)
    return run


def validations(run: Path) -> list[dict[str, float]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == "validation"]


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_learns_resumes_and_its_export_denoises(
    method: str, small_set: Path, tmp_path: Path
) -> None:
    run = fitted(eager(20, method), small_set, tmp_path / "run")
    fitted(eager(20, method), small_set, run, resume=True, steps=80)
    last = validations(run)[-1]
    assert last["step"] == 80
    assert last["psnr"] > last["psnr_low"] + 0.5
    card = export(run, tmp_path / "model")
    assert sorted(p.name for p in card.parent.iterdir()) == [
        f"{method}.json",
        f"{method}.safetensors",
    ]
    assert ModelCard.load(card).for_comparison
    noisy = np.random.default_rng(0).normal(40, 20, (2, 33, 47)).astype(np.float32)
    volume = Volume(noisy, (1.0, 0.7, 0.7), np.eye(4))
    result, report = denoise_volume(
        volume, load_denoiser(str(card), device="cpu"), Condition(), seed=1
    )
    assert report.steps == 0
    assert float(np.std(result.hu)) < float(np.std(noisy))


def test_a_fit_starts_from_an_exported_model_of_its_own_method_only(
    small_set: Path, tmp_path: Path
) -> None:
    run = fitted(eager(4), small_set, tmp_path / "run")
    export(run, tmp_path / "model")
    task = build_task(eager(4), CPU)
    before = [p.detach().clone() for p in task.parameters()]
    for source in (run, tmp_path / "model"):
        task.initialise(source)
        assert any(not torch.equal(a, b) for a, b in zip(before, task.parameters(), strict=True))
    with pytest.raises(TrainingError, match="another shape"):
        build_task(load_recipe("redcnn"), CPU).initialise(run)
    with pytest.raises(TrainingError, match="not 'redcnn'"):
        task.initialise(Path("man"))
    with pytest.raises(TrainingError, match="not of MAN"):
        build_task(load_recipe("man-diffusion-tiny"), CPU).initialise(run)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"method": "redcn"}, "Unknown method 'redcn'; use one of"),
        ({"model": {"width": 3}}, "model has an unknown key"),
        ({"objective": {"l1": 1.0}}, "objective is invalid"),
        ({"model": {"kernel": 9}}, "data.crop must be at least 41"),
    ],
)
def test_a_wrong_recipe_is_refused_in_a_sentence(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        build_task(load_recipe("redcnn-tiny").model_copy(update=change), CPU)


def test_every_recipe_names_a_task() -> None:
    names = (path.stem for path in recipe_folder().glob("*.yaml"))
    assert {load_recipe(name).method for name in names} == set(TASKS)


def test_the_loss_is_the_mean_square_without_the_margin() -> None:
    network = RedCnn(RedCnnConfig(channels=2, kernel=3))
    full = torch.zeros(2, 1, 16, 16)
    low = full + 20.0
    low[..., 0] = 3000.0
    with torch.no_grad():
        found = regression_loss(network, full, low, RegressionObjective(margin=1))
        rim = regression_loss(network, full, low, RegressionObjective(margin=0))
    unit_hu = network.config.scale * HuRange().half_width
    assert float(found["rmse_hu"]) == pytest.approx(20.0, rel=1e-3)
    assert float(found["loss"]) == pytest.approx((20.0 / unit_hu) ** 2, rel=1e-3)
    assert float(rim["rmse_hu"]) > 100


def test_balanced_crops_have_equal_weight_at_any_noise() -> None:
    network = RedCnn(RedCnnConfig(channels=2, kernel=3))
    full = torch.zeros(1, 1, 16, 16)
    objective = RegressionObjective(margin=0, balanced=True)
    with torch.no_grad():
        quiet, loud, none = (
            float(regression_loss(network, full, full + hu, objective)["loss"])
            for hu in (40.0, 400.0, 0.0)
        )
    assert quiet == pytest.approx(1.0, abs=0.05)
    assert loud == pytest.approx(1.0, abs=0.05)
    assert none == pytest.approx(0.0, abs=1e-6)

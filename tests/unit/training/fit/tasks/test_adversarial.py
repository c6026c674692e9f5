"""WGAN-VGG and DU-GAN through the one loop: they learn, resume with their critics, and denoise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from man_core import Condition, ModelCard, Volume, denoise_volume, load_denoiser
from training.errors import RecipeError, TrainingError
from training.fit.export import export
from training.fit.run import FitOptions, fit
from training.fit.state import load_state
from training.fit.tasks.build import build_task
from training.settings import Recipe, load_recipe

CPU = torch.device("cpu")
METHODS = {"wgan-vgg": {"critic", "wasserstein", "penalty"}, "du-gan": {"cutmix_image", "mse"}}
"""Adversarial methods, and terms that the journal must have of each."""


def recipe_of(method: str, **changes: dict[str, Any]) -> Recipe:
    """The tiny recipe with checkpoints at the end only, and with changes in some sections."""
    recipe = load_recipe(f"{method}-tiny").model_dump(mode="json")
    recipe["journal"]["save_seconds"] = 600.0
    for section, values in changes.items():
        recipe[section] |= values
    return Recipe.model_validate(recipe)


def fitted(recipe: Recipe, data: Path, run: Path, **options: object) -> Path:
    fit(recipe, FitOptions(data, run, device="cpu", **options))  # type: ignore[arg-type]
    return run


def journal(run: Path, kind: str) -> list[dict[str, float]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == kind]


def tensors(state: object) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state]
    if isinstance(state, dict):
        return [tensor for key in sorted(state, key=str) for tensor in tensors(state[key])]
    return []


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_learns_and_its_export_denoises(method: str, small_set: Path, tmp_path: Path) -> None:
    recipe = recipe_of(method, data={"batch": 8}, fit={"steps": 80})
    run = fitted(recipe, small_set, tmp_path / "run")
    steps, last = journal(run, "fit"), journal(run, "validation")[-1]
    assert set(steps[0]) >= METHODS[method]
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert last["psnr"] > last["psnr_low"] + 0.1
    card = export(run, tmp_path / "model")
    assert ModelCard.load(card).for_comparison
    noisy = np.random.default_rng(0).normal(40, 20, (2, 33, 47)).astype(np.float32)
    volume = Volume(noisy, (1.0, 0.7, 0.7), np.eye(4))
    result, _ = denoise_volume(volume, load_denoiser(str(card), device="cpu"), Condition(), seed=1)
    assert float(np.std(result.hu)) < float(np.std(noisy))


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_fit_ends_with_the_bits_of_an_uninterrupted_one(
    method: str, small_set: Path, tmp_path: Path
) -> None:
    constant = {"learning_rate": 1e-3, "last_learning_rate": 1e-3}  # else it depends on the end
    recipe = recipe_of(method, fit=constant)
    whole = fitted(recipe, small_set, tmp_path / "whole", steps=10)
    parts = fitted(recipe, small_set, tmp_path / "parts", steps=6)
    before = build_task(recipe, CPU).state_dict()["critics"]
    fitted(recipe, small_set, parts, resume=True, steps=10)
    one, other = (load_state(run) for run in (whole, parts))
    assert one is not None
    assert other is not None
    assert len(tensors(one["task"]["critic_optimiser"])) > 0
    for part in ("task", "averaged", "optimiser"):
        pairs = zip(tensors(one[part]), tensors(other[part]), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    fitted_critics = one["task"]["critics"]
    assert any(not torch.equal(fitted_critics[name], before[name]) for name in before)


def test_a_run_without_critics_is_refused() -> None:
    task = build_task(recipe_of("du-gan"), CPU)
    state = task.state_dict()
    for part in ("critics", "critic_optimiser"):
        with pytest.raises(TrainingError, match="run"):
            task.load_state_dict({name: value for name, value in state.items() if name != part})


@pytest.mark.parametrize(
    ("method", "section", "change", "sentence"),
    [
        ("wgan-vgg", "objective", {"l1": 1.0}, "objective is invalid"),
        ("wgan-vgg", "data", {"crop": 16}, "too small for the critic"),
        ("wgan-vgg", "model", {"width": 3}, "model has an unknown key"),
        ("du-gan", "objective", {"critic_levels": 6}, "multiple of 64"),
        ("du-gan", "objective", {"cutmix_probability": 2.0}, "objective is invalid"),
    ],
)
def test_a_wrong_recipe_is_refused_in_a_sentence(
    method: str, section: str, change: dict[str, object], sentence: str
) -> None:
    with pytest.raises(RecipeError, match=sentence):
        build_task(recipe_of(method, **{section: change}), CPU)

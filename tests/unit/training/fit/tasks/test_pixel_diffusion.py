"""Conditional DDPM and Fast-DDPM through the one loop: fit, resume, export, denoise; their loss."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from man_core import Condition, ModelCard, Volume, denoise_volume, load_denoiser
from man_core.nets.pixel_diffusion import NON_UNIFORM_STEPS, PixelDiffusion
from training.errors import RecipeError
from training.fit.export import export
from training.fit.run import FitOptions, fit
from training.fit.tasks.build import build_task
from training.fit.tasks.pixel_diffusion import pixel_config
from training.objectives.pixel_diffusion import PixelDiffusionObjective, pixel_diffusion_loss
from training.settings import Recipe, load_recipe

CPU = torch.device("cpu")


def eager(method: str) -> Recipe:
    """The tiny recipe of a method with what shows something in a few steps."""
    recipe = load_recipe("fast-ddpm-tiny")
    return recipe.model_copy(
        update={
            "method": method,
            "model": recipe.model | {"preset": f"{method}-reduced"},
            "data": recipe.data.model_copy(update={"batch": 8}),
            "fit": recipe.fit.model_copy(update={"steps": 10, "learning_rate": 0.004}),
            "validation": recipe.validation.model_copy(update={"every": 10}),
            "journal": recipe.journal.model_copy(update={"save_seconds": 600.0}),
        }
    )


@pytest.mark.parametrize(
    ("method", "sampler", "steps"), [("fast-ddpm", "ddim", 10), ("ddpm", "ddpm", 1000)]
)
def test_a_fit_learns_resumes_and_its_export_denoises(
    small_set: Path, tmp_path: Path, method: str, sampler: str, steps: int
) -> None:
    run = tmp_path / "run"
    fit(eager(method), FitOptions(small_set, run, device="cpu"))
    fit(eager(method), FitOptions(small_set, run, device="cpu", resume=True, steps=40))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "fit"]
    held_out = [line for line in lines if line["kind"] == "validation"]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert held_out[-1]["psnr"] > held_out[0]["psnr"]
    assert held_out[-1]["psnr"] > held_out[-1]["psnr_low"] + 0.5
    path = export(run, tmp_path / "model")
    card = ModelCard.load(path)
    assert (card.name, card.method) == (f"{method}-reduced", method)
    assert (card.sampler, card.steps, card.for_comparison) == (sampler, steps, True)
    assert "on a CPU a slice" in card.limits[0]
    assert "reduced width (8 channels)" in card.summary
    noisy = np.random.default_rng(0).normal(42, 10, (2, 33, 47)).astype(np.float32)
    volume = Volume(noisy, (1.0, 0.7, 0.7), np.eye(4))
    denoiser = load_denoiser(str(path), device="cpu", steps=4)
    result, report = denoise_volume(volume, denoiser, Condition(), seed=1)
    assert report.steps == 4
    assert float(np.std(result.hu)) < float(np.std(noisy))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": {"preset": "man-s"}}, "Unknown preset 'man-s'; use one of fast-ddpm, fast-ddpm"),
        ({"model": {"width": 3}}, "model has an unknown key"),
        ({"model": {"unet": {"width": 3}}}, "model has an unknown key"),
        ({"model": {"trained_steps": [2, 1]}}, "model is invalid: trained_steps must rise"),
        ({"model": {"unet": {"channels_in": 1}}}, "takes two images and gives one"),
        ({"objective": {"l1": 1.0}}, "objective is invalid"),
        ({"model": {"unet": {"multipliers": [1] * 6}}}, "data.crop must be a multiple of 64"),
    ],
)
def test_a_wrong_recipe_is_refused_in_a_sentence(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        build_task(load_recipe("fast-ddpm-tiny").model_copy(update=change), CPU)


def test_only_trained_steps_are_drawn_and_each_with_its_mirror_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, seen = tiny_network(), []

    def predict(self: PixelDiffusion, z: Tensor, steps: Tensor, condition: Tensor) -> Tensor:
        seen.append(steps)
        return torch.zeros_like(z)

    monkeypatch.setattr(PixelDiffusion, "predict", predict)
    crops = torch.zeros(64, 1, 4, 4)
    pixel_diffusion_loss(network, crops, crops, PixelDiffusionObjective(), torch.Generator())
    places = [NON_UNIFORM_STEPS.index(int(step)) for step in seen[0]]
    assert [9 - place for place in places[:32]] == places[32:]
    assert set(places) == set(range(10))


def test_balanced_crops_have_equal_weight_at_any_noise() -> None:
    network = tiny_network()  # predicts no residual, so that all of the noise is the error
    full = torch.zeros(2, 1, 8, 8)
    objective, found = PixelDiffusionObjective(balanced=True), []
    with torch.no_grad():
        for noise in (0.2, 2.0):
            terms = pixel_diffusion_loss(network, full, full + noise, objective, generator())
            found.append(float(terms["loss"]))
    assert found == pytest.approx([1.0, 1.0], abs=0.01)


def tiny_network() -> PixelDiffusion:
    return PixelDiffusion(pixel_config(load_recipe("fast-ddpm-tiny").model, "fast-ddpm"))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)

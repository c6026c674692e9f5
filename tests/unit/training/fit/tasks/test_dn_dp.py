"""Dn-Dp through the one loop: fit, resume, export, denoise; and what a recipe may not say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from man_core import Condition, ModelCard, Volume, denoise_volume, load_denoiser
from training.errors import RecipeError
from training.fit.export import export
from training.fit.run import FitOptions, fit
from training.fit.tasks.build import build_task
from training.settings import Recipe, load_recipe


def eager() -> Recipe:
    """The tiny recipe with what shows something in a few steps."""
    recipe = load_recipe("dn-dp-tiny")
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"batch": 8}),
            "fit": recipe.fit.model_copy(update={"steps": 5, "learning_rate": 0.004}),
            "validation": recipe.validation.model_copy(update={"every": 1000}),
            "journal": recipe.journal.model_copy(update={"save_seconds": 600.0}),
        }
    )


def test_a_fit_learns_resumes_and_its_export_denoises(small_set: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(eager(), FitOptions(small_set, run, device="cpu"))
    fit(eager(), FitOptions(small_set, run, device="cpu", resume=True, steps=40))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "fit"]
    held_out = [line["psnr"] for line in lines if line["kind"] == "validation"]
    assert np.mean(losses[-2:]) < 0.7 * losses[0]
    assert held_out[-1] > held_out[0] + 1.0
    path = export(run, tmp_path / "model")
    card = ModelCard.load(path)
    assert (card.name, card.sampler, card.steps) == ("dn-dp-reduced", "map", 29)
    assert card.for_comparison
    assert "on a CPU a slice" in card.limits[0]
    assert "reduced width (8 channels), one run" in card.summary
    noisy = np.random.default_rng(0).normal(42, 25, (1, 33, 47)).astype(np.float32)
    volume = Volume(noisy, (1.0, 0.7, 0.7), np.eye(4))
    result, report = denoise_volume(
        volume, load_denoiser(str(path), device="cpu"), Condition(), seed=1
    )
    assert report.steps == 29
    assert float(np.std(result.hu)) < float(np.std(noisy))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": {"preset": "man-s"}}, "Unknown preset 'man-s'; use one of dn-dp"),
        ({"model": {"width": 3}}, "model has an unknown key"),
        ({"model": {"low": {"unet": {"width": 3}}}}, "model has an unknown key"),
        ({"model": {"weights": {"high": 0.0}}}, "model is invalid: low, slope and local"),
        ({"objective": {"l1": 1.0}}, "objective is invalid"),
        ({"model": {"preset": "dn-dp-reduced", "factor": 4}}, "data.crop must be a multiple of 64"),
    ],
)
def test_a_wrong_recipe_is_refused_in_a_sentence(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        build_task(load_recipe("dn-dp-tiny").model_copy(update=change), torch.device("cpu"))

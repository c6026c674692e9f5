"""Builds the tasks of MAN's two stages from a recipe."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from man_core.nets.man import ManConfig
from man_core.nets.presets import PRESETS
from training.errors import RecipeError
from training.fit.tasks.man_autoencoder import AutoencoderTask
from training.fit.tasks.man_diffusion import DiffusionTask
from training.settings import Recipe


def man_autoencoder_task(recipe: Recipe, device: torch.device) -> AutoencoderTask:
    """Stage one.

    Raises:
        RecipeError: The model or objective has a wrong key.
    """
    return AutoencoderTask(model_config(recipe.model), recipe.objective, device)


def man_diffusion_task(recipe: Recipe, device: torch.device) -> DiffusionTask:
    """Stage two.

    Raises:
        RecipeError: The model or objective has a wrong key.
    """
    return DiffusionTask(model_config(recipe.model), recipe.objective, device)


def model_config(model: dict[str, Any]) -> ManConfig:
    """Network of a recipe: a preset with single values replaced.

    Raises:
        RecipeError: The preset, a key or a word is unknown.
    """
    changes = dict(model)
    preset = changes.pop("preset", "man-s")
    if preset not in PRESETS:
        raise RecipeError(f"unknown preset {preset!r}: use one of {', '.join(sorted(PRESETS))}")
    values = asdict(PRESETS[preset])
    for part in ("autoencoder", "unet", "shift", "detail"):
        values[part] |= changes.pop(part, {})
    try:
        return ManConfig.from_dict(values | changes)
    except TypeError as error:
        raise RecipeError(f"the recipe's model has a wrong key: {error}") from error
    except ValueError as error:
        raise RecipeError(f"the recipe's model is wrong: {error}") from error

"""Which method of a recipe is which task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from man_core.nets.man import ManConfig
from man_core.nets.presets import PRESETS
from training.errors import RecipeError
from training.fit.task import Task
from training.fit.tasks.man_autoencoder import AutoencoderTask
from training.fit.tasks.man_diffusion import DiffusionTask
from training.fit.tasks.redcnn import redcnn_task
from training.settings import Recipe


def _man_autoencoder(recipe: Recipe, device: torch.device) -> Task:
    return AutoencoderTask(man_config(recipe.model), recipe.objective, device)


def _man_diffusion(recipe: Recipe, device: torch.device) -> Task:
    return DiffusionTask(man_config(recipe.model), recipe.objective, device)


TASKS: dict[str, Callable[[Recipe, torch.device], Task]] = {
    "man-autoencoder": _man_autoencoder,
    "man-diffusion": _man_diffusion,
    "redcnn": redcnn_task,
}
"""Method of a recipe to what builds its task."""


def build_task(recipe: Recipe, device: torch.device) -> Task:
    """The task of a recipe.

    Raises:
        RecipeError: The method is unknown, or its model or objective has a wrong key.
    """
    if recipe.method not in TASKS:
        raise RecipeError(f"unknown method {recipe.method!r}: use one of {', '.join(TASKS)}")
    torch.manual_seed(recipe.seed)
    return TASKS[recipe.method](recipe, device)


def man_config(model: dict[str, Any]) -> ManConfig:
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

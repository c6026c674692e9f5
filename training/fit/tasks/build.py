"""Construction of the task of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from man_core.nets.man import ManConfig
from man_core.nets.presets import PRESETS
from training.errors import RecipeError
from training.fit.task import Task
from training.fit.tasks.dn_dp import dn_dp_task
from training.fit.tasks.du_gan import DuGanTask
from training.fit.tasks.man_autoencoder import AutoencoderTask
from training.fit.tasks.man_diffusion import DiffusionTask
from training.fit.tasks.pixel_diffusion import pixel_diffusion_task
from training.fit.tasks.regression import RegressionTask
from training.fit.tasks.wgan_vgg import WganVggTask
from training.settings import Recipe


def _man_autoencoder(recipe: Recipe, device: torch.device) -> Task:
    return AutoencoderTask(man_config(recipe.model), recipe.objective, device)


def _man_diffusion(recipe: Recipe, device: torch.device) -> Task:
    return DiffusionTask(man_config(recipe.model), recipe.objective, device)


TASKS: dict[str, Callable[[Recipe, torch.device], Task]] = {
    "man-autoencoder": _man_autoencoder,
    "man-diffusion": _man_diffusion,
    "ddpm": pixel_diffusion_task,
    "dn-dp": dn_dp_task,
    "fast-ddpm": pixel_diffusion_task,
    "du-gan": DuGanTask,
    "qae": RegressionTask,
    "redcnn": RegressionTask,
    "wgan-vgg": WganVggTask,
}
"""Constructors of tasks by the method of a recipe."""


def build_task(recipe: Recipe, device: torch.device) -> Task:
    """Build the task of a recipe.

    Raises:
        RecipeError: The method is unknown, or its model or objective has a wrong key.
    """
    if recipe.method not in TASKS:
        raise RecipeError(f"Unknown method {recipe.method!r}; use one of {', '.join(TASKS)}.")
    wanted = recipe.model.get("context_slices", 0)
    if wanted != recipe.data.context_slices:
        raise RecipeError(
            f"The recipe's model.context_slices ({wanted}) and data.context_slices"
            f" ({recipe.data.context_slices}) must be equal."
        )
    torch.manual_seed(recipe.seed)
    return TASKS[recipe.method](recipe, device)


def man_config(model: dict[str, Any]) -> ManConfig:
    """Build the network configuration of a recipe: a preset with some values replaced.

    Raises:
        RecipeError: The preset, a key or a value is unknown.
    """
    changes = dict(model)
    preset = changes.pop("preset", "man-s")
    if preset not in PRESETS:
        raise RecipeError(f"Unknown preset {preset!r}; use one of {', '.join(sorted(PRESETS))}.")
    values = asdict(PRESETS[preset])
    for part in ("autoencoder", "unet", "shift", "detail"):
        values[part] |= changes.pop(part, {})
    try:
        return ManConfig.from_dict(values | changes)
    except TypeError as error:
        raise RecipeError(f"The recipe's model has an unknown key: {error}.") from error
    except ValueError as error:
        raise RecipeError(f"The recipe's model is invalid: {error}.") from error

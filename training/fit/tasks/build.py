"""Which method of a recipe is which task."""

from __future__ import annotations

from collections.abc import Callable

import torch

from training.errors import RecipeError
from training.fit.man import man_autoencoder_task, man_diffusion_task
from training.fit.task import Task
from training.fit.tasks.redcnn import redcnn_task
from training.settings import Recipe

TASKS: dict[str, Callable[[Recipe, torch.device], Task]] = {
    "man-autoencoder": man_autoencoder_task,
    "man-diffusion": man_diffusion_task,
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

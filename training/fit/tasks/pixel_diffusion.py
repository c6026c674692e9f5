"""Conditional DDPM and Fast-DDPM as tasks of the training loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from man_core.card import ModelCard
from man_core.denoisers.pixel_diffusion import ConditionalSampler
from man_core.denoisers.shared_noise import shared_noise
from man_core.hu import HuRange
from man_core.nets.pixel_diffusion import PIXEL_PRESETS, PixelDiffusion, PixelDiffusionConfig
from training.data.batch import Batch
from training.errors import RecipeError
from training.fit.task import Moment, RunFacts
from training.fit.tasks.export import export_model
from training.fit.tasks.single_network import SingleNetworkTask
from training.objectives.pixel_diffusion import PixelDiffusionObjective, pixel_diffusion_loss
from training.settings import Recipe, read_objective

VALIDATION_STEPS = 10
"""Maximum number of sampling steps in validation: a thousand would take longer than the fit."""

VALIDATION_SEED = 0
"""Seed of the noise in validation."""

SAMPLER = {"ddpm": "ddpm", "fast-ddpm": "ddim"}
"""Published sampler of each method: ancestral, and DDIM."""

SLOW = (
    "Each sampling step of a slice is an evaluation of a network in pixel space; on a CPU a slice"
    " of 512 x 512 takes from seconds to hours, by width and steps."
)
"""Limit in the card of every such method."""

TITLES = {
    "ddpm": "Conditional DDPM in pixel space",
    "fast-ddpm": "Fast-DDPM, conditional diffusion in pixel space on ten trained steps",
}


class PixelDiffusionTask(SingleNetworkTask):
    """Trains the network to predict the noise in a full-dose crop beside the low-dose one."""

    def __init__(
        self,
        method: str,
        config: PixelDiffusionConfig,
        objective: PixelDiffusionObjective,
        device: torch.device,
    ) -> None:
        self.network = PixelDiffusion(config)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(method, self.network, device)
        self.objective = objective

    def networks(self) -> list[torch.nn.Module]:
        """Return the U-Net, whose ``forward`` a step calls."""
        return [self.network.unet]

    def loss(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Compute the error of the predicted noise."""
        span, standard = HuRange(), self.network.config.standard
        clean, low = (standard.apply(span.to_network(hu)) for hu in (batch.full, batch.low))
        return pixel_diffusion_loss(self.network, clean, low, self.objective, moment.generator)

    def restore(self, low: Tensor) -> Tensor:
        """Sample crops in few steps, by the sampler of the card."""
        sampler = ConditionalSampler(self.network, SAMPLER[self.method])
        noise = shared_noise(torch.Generator().manual_seed(VALIDATION_SEED))
        steps = min(VALIDATION_STEPS, len(self.network.config.steps))
        return HuRange().to_hu(sampler.sample(HuRange().to_network(low), noise, steps=steps))

    def export(self, folder: Path, facts: RunFacts) -> Path:
        """Write weights and card, which name a width that is not the published one."""
        config, published = self.network.config, PIXEL_PRESETS[self.method]
        full = config.unet == published.unet
        width = "published width" if full else f"reduced width ({config.unet.channels} channels)"
        card = ModelCard(
            name=self.method if full else f"{self.method}-reduced",
            version="",
            method=self.method,
            summary=f"{TITLES[self.method]}, {width}, for comparison.",
            sampler=SAMPLER[self.method],
            steps=len(config.steps),
            limits=(SLOW,),
            for_comparison=True,
        )
        return export_model(card, self.network, config.to_dict(), folder, facts)


def pixel_diffusion_task(recipe: Recipe, device: torch.device) -> PixelDiffusionTask:
    """Build the task of a recipe.

    Raises:
        RecipeError: Model or objective has an unknown key or a wrong value, or the crops do not
            fit the network.
    """
    objective = read_objective(PixelDiffusionObjective, recipe.objective)
    config = pixel_config(recipe.model, recipe.method)
    if recipe.data.crop % config.alignment:
        raise RecipeError(
            f"The recipe's data.crop must be a multiple of {config.alignment} for this network."
        )
    return PixelDiffusionTask(recipe.method, config, objective, device)


def pixel_config(model: Mapping[str, Any], method: str) -> PixelDiffusionConfig:
    """Build the network configuration of a recipe: a preset with some values replaced.

    Raises:
        RecipeError: The preset, a key or a value is unknown.
    """
    changes = dict(model)
    preset, known = changes.pop("preset", method), (method, f"{method}-reduced")
    if preset not in known:
        raise RecipeError(f"Unknown preset {preset!r}; use one of {', '.join(known)}.")
    values = asdict(PIXEL_PRESETS[preset])
    for part in ("unet", "standard"):
        values[part] |= changes.pop(part, {})
    try:
        config = PixelDiffusionConfig.from_dict(values | changes)
    except TypeError as error:
        raise RecipeError(f"The recipe's model has an unknown key: {error}.") from error
    except ValueError as error:
        raise RecipeError(f"The recipe's model is invalid: {error}.") from error
    if (config.unet.channels_in, config.unet.channels_out) != (2, 1):
        raise RecipeError(f"The network of {method} takes two images and gives one.")
    return config

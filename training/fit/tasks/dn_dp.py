"""Dn-Dp as a task of the training loop: both stages at once, on full dose alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from man_core.card import ModelCard
from man_core.denoisers.dn_dp import SAMPLER, DnDpSampler
from man_core.denoisers.shared_noise import shared_noise
from man_core.hu import HuRange
from man_core.nets.dn_dp import DN_DP_PRESETS, SAMPLED_STEPS, DnDp, DnDpConfig
from training.data.batch import Batch
from training.errors import RecipeError
from training.fit.task import Moment, RunFacts
from training.fit.tasks.export import export_model
from training.fit.tasks.pixel_diffusion import SLOW
from training.fit.tasks.single_network import SingleNetworkTask
from training.objectives.pixel_diffusion import PixelDiffusionObjective, pixel_diffusion_loss
from training.settings import Recipe, read_objective

VALIDATION_SEED = 0
"""Seed of the noise in validation."""


class DnDpTask(SingleNetworkTask):
    """Trains the prior of both stages; the low dose of a batch serves validation alone."""

    def __init__(
        self, config: DnDpConfig, objective: PixelDiffusionObjective, device: torch.device
    ) -> None:
        self.network = DnDp(config)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__("dn-dp", self.network, device)
        self.objective = objective

    def networks(self) -> list[nn.Module]:
        """Return the U-Nets, whose ``forward`` a step calls."""
        return [self.network.low.unet, self.network.high.unet]

    def loss(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Compute the sum of the errors of both stages."""
        network, random = self.network, moment.generator
        clean = network.config.low.standard.apply(HuRange().to_network(batch.full))
        small = network.reduced(clean)
        low = pixel_diffusion_loss(network.low, small, None, self.objective, random)
        guide = network.enlarged(small)
        high = pixel_diffusion_loss(network.high, clean, guide, self.objective, random)
        terms = {"loss_low": low["loss"], "loss_high": high["loss"]}
        return {"loss": low["loss"] + high["loss"], **terms, "z0_rmse": high["z0_rmse"]}

    def restore(self, low: Tensor) -> Tensor:
        """Denoise crops in one run."""
        noise = shared_noise(torch.Generator().manual_seed(VALIDATION_SEED))
        sampler = DnDpSampler(self.network, runs=1)
        steps = len(SAMPLED_STEPS)
        return HuRange().to_hu(sampler.sample(HuRange().to_network(low), noise, steps=steps))

    def export(self, folder: Path, facts: RunFacts) -> Path:
        """Write weights and card, which name a width that is not the published one."""
        config = self.network.config
        published = {preset: DN_DP_PRESETS[preset] for preset in ("dn-dp", "dn-dp-chest")}
        stages = {(one.low, one.high) for one in published.values()}
        full = (config.low, config.high) in stages
        channels = config.high.unet.channels
        width = "published width" if full else f"reduced width ({channels} channels)"
        runs = "one run" if config.runs == 1 else f"mean of {config.runs} runs"
        card = ModelCard(
            name="dn-dp" if full else "dn-dp-reduced",
            version="",
            method="dn-dp",
            summary=f"Dn-Dp, a diffusion prior on full dose, {width}, {runs}, for comparison.",
            sampler=SAMPLER,
            steps=len(SAMPLED_STEPS),
            limits=(SLOW,),
            for_comparison=True,
        )
        return export_model(card, self.network, config.to_dict(), folder, facts)


def dn_dp_task(recipe: Recipe, device: torch.device) -> DnDpTask:
    """Build the task of a recipe.

    Raises:
        RecipeError: Model or objective has an unknown key or a wrong value, or the crops do not
            fit the network.
    """
    objective = read_objective(PixelDiffusionObjective, recipe.objective)
    config = dn_dp_config(recipe.model)
    if recipe.data.crop % config.alignment:
        raise RecipeError(
            f"The recipe's data.crop must be a multiple of {config.alignment} for this network."
        )
    return DnDpTask(config, objective, device)


def dn_dp_config(model: Mapping[str, Any]) -> DnDpConfig:
    """Build the network configuration of a recipe: a preset with some values replaced.

    Raises:
        RecipeError: The preset, a key or a value is unknown.
    """
    changes = dict(model)
    preset = changes.pop("preset", "dn-dp")
    if preset not in DN_DP_PRESETS:
        raise RecipeError(f"Unknown preset {preset!r}; use one of {', '.join(DN_DP_PRESETS)}.")
    values = asdict(DN_DP_PRESETS[preset])
    for stage in ("low", "high"):
        change = dict(changes.pop(stage, {}))
        values[stage]["unet"] |= change.pop("unet", {})
        values[stage] |= change
    values["weights"] |= changes.pop("weights", {})
    try:
        return DnDpConfig.from_dict(values | changes)
    except TypeError as error:
        raise RecipeError(f"The recipe's model has an unknown key: {error}.") from error
    except ValueError as error:
        raise RecipeError(f"The recipe's model is invalid: {error}.") from error

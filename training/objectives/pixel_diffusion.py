"""Loss of a diffusion in pixel space (Ho et al. 2020, eq. 14)."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from man_core.diffusion.parametrization import clean_from, target_of
from man_core.nets.pixel_diffusion import PixelDiffusion


class PixelDiffusionObjective(BaseModel):
    """Weighting of crops.

    Attributes:
        balanced: Whether to divide the error of each crop by the energy of its target, so that all
            doses and kernels count equally; for networks that predict the residual. Added noise has
            the same energy in every crop.
    """

    model_config = ConfigDict(extra="forbid")

    balanced: bool = False


MIN_ENERGY = 1e-4
"""Limits the weight of crops without noise: the energy of 5 HU, standardised."""


def pixel_diffusion_loss(
    network: PixelDiffusion,
    clean: Tensor,
    condition: Tensor | None,
    objective: PixelDiffusionObjective,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Compute the mean squared error of the prediction per pixel.

    The published code sums over the pixels of a crop instead, a constant factor that Adam ignores.

    Args:
        network: Network in training.
        clean: Full-dose crops [batch, 1, row, column], standardised.
        condition: Low-dose crops of the same shape, standardised; None: none is shown.
        objective: Weighting of crops.
        generator: Source of steps and noise.

    Returns:
        ``loss``, and ``z0_rmse``, the error of the clean crop that follows, standardised.
    """
    steps = _antithetic_steps(network, len(clean), generator)
    noise = torch.empty_like(clean).normal_(generator=generator)
    level, z = network.schedule.at(steps, clean), network.schedule.noised(clean, steps, noise)
    shown = z if condition is None else condition
    kind, output = network.config.prediction, network.predict(z, steps, condition)
    target = target_of(kind, clean, noise, level, shown)
    error = _energy(output - target)
    if objective.balanced:
        error = error / (_energy(target) + MIN_ENERGY)
    predicted = clean_from(kind, output.detach(), z, level, shown)
    bounded = predicted.clamp(*network.config.standard.limits)
    return {"loss": error.mean(), "z0_rmse": _energy(bounded - clean).mean().sqrt()}


def _energy(x: Tensor) -> Tensor:
    """Average the square of each crop: [batch, 1, row, column] to [batch]."""
    return x.square().mean(dim=(1, 2, 3))


def _antithetic_steps(network: PixelDiffusion, count: int, generator: torch.Generator) -> Tensor:
    """Draw trained steps [batch], half of them the mirror images of the others (Song et al.)."""
    trained = network.config.steps
    half = torch.randint(
        len(trained), ((count + 1) // 2,), generator=generator, device=generator.device
    )
    places = torch.cat((half, len(trained) - 1 - half))[:count]
    if isinstance(trained, range):
        return places + trained[0]
    return torch.tensor(trained, device=places.device)[places]

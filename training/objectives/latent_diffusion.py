"""Loss of stage two (MAN paper, eq. 7), for every parametrization."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from man_core.diffusion.parametrization import clean_from, target_of
from man_core.diffusion.schedule import Schedule
from man_core.nets.man import ManNetwork
from training.objectives.restoration import RestorationObjective


class DiffusionObjective(BaseModel):
    """Distribution of steps and weighting of errors.

    Attributes:
        first_step_share: Share of crops at the step where sampling starts; the others are uniform
            over all steps. Few-step sampling depends mostly on that step (as in Fast-DDPM).
        hu_weighted: Whether to weight latent channels by the HU that they decode to; without it a
            standardised latent almost ignores noise of low frequency.
        balanced: Whether to divide the error of each crop by the energy of its target, so that all
            doses and kernels count equally.
        latent: Weight of eq. 7 if the decoded prediction is compared as well.
        restoration: Terms of that comparison; None: no decoder in the loss, as in the paper.
        gain_share: Share of crops with a dose gain below that of the full dose, for networks that
            are told it.
        lesions: Low-contrast lesions planted in each crop.
        fresh_unet: Whether the U-Net is initialised anew even if ``--init`` names one, so that
            readings can be compared from the same start.
    """

    model_config = ConfigDict(extra="forbid")

    first_step_share: float = Field(default=0.0, ge=0, le=1)
    hu_weighted: bool = False
    balanced: bool = False
    latent: float = Field(default=1.0, ge=0)
    restoration: RestorationObjective | None = None
    gain_share: float = Field(default=0.0, ge=0, le=1)
    lesions: int = Field(default=0, ge=0)
    fresh_unet: bool = False


MIN_ENERGY = 0.05
"""Limits the weight of crops without noise; noise of average level has energy 1."""


@dataclass(frozen=True)
class Noised:
    """Noisy latents with their steps and noise.

    Attributes:
        z: z_t [batch, latent, row, column].
        time: Time input of the network [batch].
        level: Alpha-bar of the steps [batch, 1, 1, 1].
        noise: Added noise, of the shape of ``z``.
    """

    z: Tensor
    time: Tensor
    level: Tensor
    noise: Tensor


def draw_steps(
    count: int, network: ManNetwork, share: float, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Draw steps [count] from 1 to T; the first ``share`` of them is the first sampling step."""
    steps = torch.randint(
        1, network.config.diffusion_steps + 1, (count,), generator=generator, device=device
    )
    steps[: round(share * count)].fill_(network.config.first_step)
    return steps


def diffusion_loss(
    network: ManNetwork,
    schedule: Schedule,
    clean: Tensor,
    condition: Tensor,
    position: Tensor,
    objective: DiffusionObjective,
    generator: torch.Generator,
    gain: Tensor | None = None,
    beside: Tensor | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Compute the mean squared error of the prediction and the clean latent that follows from it.

    Args:
        network: Network with frozen autoencoder.
        schedule: Noise levels.
        clean: Full-dose latent z_0 [batch, latent, row, column], standardised.
        condition: Low-dose latent c, same shape.
        position: (top, left, bottom, right) of the crops [batch, 4].
        objective: Distribution of steps and weighting.
        generator: Source of steps and noise.
        gain: Dose gains [batch], for a network that is told them.
        beside: Neighbouring slices (``ManNetwork.beside``); None: none.

    Returns:
        The loss with its terms, and the predicted z_0 with its gradient.
    """
    steps = draw_steps(len(clean), network, objective.first_step_share, generator, clean.device)
    noise = torch.empty_like(clean).normal_(generator=generator)
    noised = Noised(schedule.noised(clean, steps, noise), steps, schedule.at(steps, clean), noise)
    return prediction_loss(network, noised, clean, condition, position, objective, gain, beside)


def prediction_loss(
    network: ManNetwork,
    noised: Noised,
    clean: Tensor,
    condition: Tensor,
    position: Tensor,
    objective: DiffusionObjective,
    gain: Tensor | None = None,
    beside: Tensor | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Compute the loss of ``diffusion_loss`` for given noisy latents."""
    kind, level = network.config.prediction, noised.level
    output = network.predict(noised.z, noised.time, condition, position, gain=gain, beside=beside)
    target = target_of(kind, clean, noised.noise, level, condition)
    weight = channel_weight(network) if objective.hu_weighted else torch.ones_like(level[:1])
    error = _energy(output - target, weight)
    predicted = clean_from(kind, output, noised.z, level, condition)
    terms = {"error": error.mean(), "z0_mse": F.mse_loss(predicted.detach(), clean)}
    if objective.balanced:
        error = error / (_energy(target, weight) + MIN_ENERGY)
    return {"loss": error.mean(), **terms}, predicted


def channel_weight(network: ManNetwork) -> Tensor:
    """Compute weights [1, latent, 1, 1] by the HU energy of a unit of each channel.

    They are scaled so that low-dose noise has unit energy, averaged over channels.
    """
    synthesis = network.autoencoder.synthesis
    if synthesis is None:
        return torch.ones_like(network.latent_std)
    gain = synthesis.weight.detach().square().sum(dim=(1, 2, 3)).view(1, -1, 1, 1)
    weight = gain * network.latent_std.square()
    return weight / (weight * network.residual_scale.square()).mean()


def _energy(x: Tensor, weight: Tensor) -> Tensor:
    return (weight * x.square()).mean(dim=(1, 2, 3))

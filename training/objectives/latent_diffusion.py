"""Loss of stage two (MAN paper, eq. 7), for every parametrization."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from man_core.diffusion.parametrization import clean_from, target_of
from man_core.diffusion.schedule import Schedule
from man_core.nets.man import ManNetwork


class DiffusionObjective(BaseModel):
    """How steps are drawn and errors weighted.

    Attributes:
        first_step_share: Share of crops at the step where sampling starts; the rest is drawn evenly
            over all steps. Few-step sampling leans on that step most (Fast-DDPM's lesson).
    """

    model_config = ConfigDict(extra="forbid")

    first_step_share: float = Field(default=0.0, ge=0, le=1)


def draw_steps(
    count: int, network: ManNetwork, share: float, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Steps [count] from 1 to T; the leading ``share`` of them at the first sampling step."""
    steps = torch.randint(
        1, network.config.diffusion_steps + 1, (count,), generator=generator, device=device
    )
    steps[: round(share * count)] = network.config.first_step
    return steps


def diffusion_loss(
    network: ManNetwork,
    schedule: Schedule,
    clean: Tensor,
    condition: Tensor,
    position: Tensor,
    objective: DiffusionObjective,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Mean squared error of the prediction, and of the clean latent that follows from it.

    Args:
        network: Autoencoder frozen, U-Net being fitted.
        schedule: Noise levels.
        clean: Full-dose latent z_0 [batch, latent, row, column], standardised.
        condition: Low-dose latent c, same shape.
        position: (top, left, bottom, right) of the crops [batch, 4].
        objective: Step drawing.
        generator: Source of steps and noise.
    """
    kind = network.config.prediction
    steps = draw_steps(len(clean), network, objective.first_step_share, generator, clean.device)
    noise = torch.empty_like(clean).normal_(generator=generator)
    z, level = schedule.noised(clean, steps, noise), schedule.at(steps, clean)
    output = network.unet(z, steps, condition, position)
    loss = F.mse_loss(output, target_of(kind, clean, noise, level, condition))
    predicted = clean_from(kind, output.detach(), z, level, condition)
    return {"loss": loss, "z0_mse": F.mse_loss(predicted, clean)}

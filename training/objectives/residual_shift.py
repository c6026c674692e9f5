"""Loss of stage two as a residual shift (ResShift, Yue et al. 2023, section 2.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from man_core.diffusion.residual_shift import ShiftSchedule
from man_core.nets.man import ManNetwork
from training.objectives.latent_diffusion import DiffusionObjective, Noised, prediction_loss


def residual_shift_loss(
    network: ManNetwork,
    schedule: ShiftSchedule,
    clean: Tensor,
    condition: Tensor,
    position: Tensor,
    objective: DiffusionObjective,
    generator: torch.Generator,
    gain: Tensor | None = None,
    beside: Tensor | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Compute the error of the prediction from a latent shifted towards the low dose.

    Its noise has, in each channel, the level of low-dose noise.

    Args:
        network: Network with frozen autoencoder.
        schedule: Shares of the residual.
        clean: Full-dose latent z_0 [batch, latent, row, column], standardised.
        condition: Low-dose latent, same shape.
        position: (top, left, bottom, right) of the crops [batch, 4].
        objective: As for the cosine diffusion; ``first_step_share`` applies to the last step, T.
        generator: Source of steps and noise.
        gain: Dose gains [batch], for a network that is told them.
        beside: Neighbouring slices (``ManNetwork.beside``); None: none.

    Returns:
        The loss with its terms, and the predicted z_0 with its gradient.
    """
    steps = torch.randint(
        1, schedule.steps + 1, (len(clean),), generator=generator, device=clean.device
    )
    steps[: round(objective.first_step_share * len(clean))].fill_(schedule.steps)
    noise = network.residual_scale * torch.empty_like(clean).normal_(generator=generator)
    z = schedule.shifted(clean, condition, steps, noise)
    level = torch.ones_like(clean[:, :1, :1, :1])
    noised = Noised(z, schedule.time(steps), level, noise)
    return prediction_loss(network, noised, clean, condition, position, objective, gain, beside)

"""Loss of the latent of a network, bound to the schedule of its diffusion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from man_core.diffusion.residual_shift import shift_schedule
from man_core.diffusion.schedule import cosine_schedule
from man_core.nets.man import ManConfig
from training.objectives.latent_diffusion import diffusion_loss
from training.objectives.residual_shift import residual_shift_loss

LatentLoss = Callable[..., tuple[dict[str, Tensor], Tensor]]
"""``diffusion_loss`` or ``residual_shift_loss`` with the schedule bound."""


def bound_loss(config: ManConfig, device: torch.device) -> LatentLoss:
    """Bind the schedule, on the device: a copy in each step would wait for the device."""
    if config.diffusion == "residual-shift":
        shift = shift_schedule(config.shift)
        shift = replace(shift, eta=shift.eta.to(device))
        return partial(residual_shift_loss, schedule=shift)
    schedule = cosine_schedule(config.diffusion_steps)
    schedule = replace(schedule, alpha_bar=schedule.alpha_bar.to(device))
    return partial(diffusion_loss, schedule=schedule)

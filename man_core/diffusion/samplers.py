"""Samplers: free functions over a model that answers with the clean latent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from man_core.diffusion.parametrization import noise_from
from man_core.diffusion.schedule import Schedule

CleanModel = Callable[[Tensor, int], Tensor]
"""(z_t, t) to the predicted z_0."""

OnStep = Callable[[int, int], None]
"""Called after each step with (steps done, steps in all)."""


def ddim(
    model: CleanModel,
    z: Tensor,
    steps: Sequence[int],
    schedule: Schedule,
    on_step: OnStep | None = None,
) -> Tensor:
    """Deterministic DDIM (eq. 6 of the MAN paper; Song et al. 2021, eq. 12 with eta = 0).

    z_{t'} = sqrt(abar_{t'}) z_0 + sqrt(1 - abar_{t'}) eps, where eps explains z_t given the
    predicted z_0.

    Args:
        model: Answers with the clean latent.
        z: z_T [batch, latent, row, column].
        steps: Falling steps; after the last comes 0.
        schedule: Noise levels.
        on_step: Progress.

    Returns:
        z_0 of z's shape.
    """
    for done, (step, following) in enumerate(pairwise((*steps, 0)), start=1):
        clean = model(z, step)
        now, after = schedule.alpha_bar[step], schedule.alpha_bar[following]
        z = after.sqrt().item() * clean + (1 - after).sqrt().item() * noise_from(
            clean, z, now.float()
        )
        if on_step is not None:
            on_step(done, len(steps))
    return z


def ddpm(
    model: CleanModel,
    z: Tensor,
    schedule: Schedule,
    generator: torch.Generator,
    on_step: OnStep | None = None,
    first_step: int | None = None,
) -> Tensor:
    """Ancestral sampling over every step (Ho et al. 2020, algorithm 2; posterior of eq. 6, 7).

    Args:
        model: Answers with the clean latent.
        z: z_T [batch, latent, row, column].
        schedule: Noise levels.
        generator: Source of the noise added in each step, on z's device.
        on_step: Progress.
        first_step: Step of z; T unless told.

    Returns:
        z_0 of z's shape.
    """
    first = first_step or schedule.steps
    for step in range(first, 0, -1):
        z = _posterior_draw(model(z, step), z, step, schedule, generator)
        if on_step is not None:
            on_step(first - step + 1, first)
    return z


def _posterior_draw(
    clean: Tensor, z: Tensor, step: int, schedule: Schedule, generator: torch.Generator
) -> Tensor:
    now, before = float(schedule.alpha_bar[step]), float(schedule.alpha_bar[step - 1])
    alpha: float = now / before
    mean: Tensor = (before**0.5 * (1 - alpha) * clean + alpha**0.5 * (1 - before) * z) / (1 - now)
    if step == 1:
        return mean
    noise = torch.empty_like(z).normal_(generator=generator)
    std: float = ((1 - before) / (1 - now) * (1 - alpha)) ** 0.5
    return mean + std * noise

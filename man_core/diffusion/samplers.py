"""Samplers: functions of a model that predicts the clean latent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from man_core.diffusion.parametrization import noise_from
from man_core.diffusion.schedule import Schedule

CleanModel = Callable[[Tensor, int], Tensor]
"""Maps (z_t, t) to the predicted z_0."""

OnStep = Callable[[int, int], None]
"""Callback after each step with (steps done, total steps)."""

NoiseSource = Callable[[Tensor], Tensor]
"""Maps a tensor to standard normal noise of its shape."""


def descending(steps: Sequence[int], on_step: OnStep | None = None) -> Iterator[tuple[int, int]]:
    """Yield each step with the one that follows it, 0 after the last; report progress after each.

    Example:
        >>> list(descending([990, 495]))
        [(990, 495), (495, 0)]
    """
    for done, pair in enumerate(pairwise((*steps, 0)), start=1):
        yield pair
        if on_step is not None:
            on_step(done, len(steps))


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

    Example:
        A model that knows the clean latent is sampled exactly, in any number of steps.

        >>> import torch
        >>> from man_core.diffusion.samplers import ddim
        >>> from man_core.diffusion.schedule import cosine_schedule, timestep_subset
        >>> clean = torch.ones(1, 4, 8, 8)
        >>> z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        >>> steps = timestep_subset(990, 2)
        >>> result = ddim(lambda z, step: clean, z, steps, cosine_schedule(1000))
        >>> torch.allclose(result, clean)
        True

    Args:
        model: Predicts the clean latent.
        z: z_T [batch, latent, row, column].
        steps: Descending steps; 0 follows the last.
        schedule: Noise levels.
        on_step: Progress callback.

    Returns:
        z_0, of the shape of ``z``.
    """
    for step, following in descending(steps, on_step):
        clean = model(z, step)
        now, after = schedule.alpha_bar[step], schedule.alpha_bar[following]
        signal, noise = after.sqrt().item(), (1 - after).sqrt().item()
        z = signal * clean + noise * noise_from(clean, z, now.float())
    return z


def dpmpp_2m(
    model: CleanModel,
    z: Tensor,
    steps: Sequence[int],
    schedule: Schedule,
    on_step: OnStep | None = None,
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2, prediction of the data).

    D = (1 + 1 / 2r) z_0(t) - (1 / 2r) z_0(t_before);
    z_{t'} = (sigma_{t'} / sigma_t) z_t - alpha_{t'} (exp(-h) - 1) D,
    with alpha = sqrt(abar), sigma = sqrt(1 - abar), lambda = log(alpha / sigma), h the increase of
    lambda in this step and r that of the previous step as a share of h. The first step has no
    predecessor and the last one reaches sigma = 0, where h is infinite: both are of first order.

    Args:
        model: Predicts the clean latent.
        z: z_T [batch, latent, row, column].
        steps: Descending steps; 0 follows the last.
        schedule: Noise levels.
        on_step: Progress callback.

    Returns:
        z_0, of the shape of ``z``.
    """
    before: tuple[Tensor, float] | None = None
    for step, following in descending(steps, on_step):
        clean = model(z, step)
        if following == 0:
            z = clean
        else:
            rise = schedule.log_snr(following) - schedule.log_snr(step)
            z = _solved(z, _extrapolated(clean, before, rise), step, following, schedule)
            before = clean, rise
    return z


def _extrapolated(clean: Tensor, before: tuple[Tensor, float] | None, rise: float) -> Tensor:
    if before is None:
        return clean
    half = rise / (2 * before[1])
    return (1 + half) * clean - half * before[0]


def _solved(z: Tensor, clean: Tensor, step: int, following: int, schedule: Schedule) -> Tensor:
    """Exact solution over a step in which the clean latent is constant."""
    now, after = float(schedule.alpha_bar[step]), float(schedule.alpha_bar[following])
    shrink = math.sqrt((1 - after) / (1 - now))
    return shrink * z + (math.sqrt(after) - shrink * math.sqrt(now)) * clean


def ddpm(
    model: CleanModel,
    z: Tensor,
    steps: Sequence[int],
    schedule: Schedule,
    noise: NoiseSource,
    on_step: OnStep | None = None,
) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, algorithm 2; posterior of eq. 6, 7).

    With a subset of the steps, the posterior is that of the subset (Nichol and Dhariwal 2021,
    section 4).

    Args:
        model: Predicts the clean latent.
        z: z_T [batch, latent, row, column].
        steps: Descending steps; 0 follows the last.
        schedule: Noise levels.
        noise: Source of the noise added after each step but the last.
        on_step: Progress callback.

    Returns:
        z_0, of the shape of ``z``.
    """
    for step, following in descending(steps, on_step):
        z, std = posterior(model(z, step), z, step, following, schedule)
        if following:
            z = z + std * noise(z)
    return z


def posterior(
    clean: Tensor, z: Tensor, step: int, following: int, schedule: Schedule
) -> tuple[Tensor, float]:
    """Compute mean and standard deviation of z_{t'} given z_t and the predicted z_0."""
    now, after = float(schedule.alpha_bar[step]), float(schedule.alpha_bar[following])
    alpha: float = now / after
    mean: Tensor = (after**0.5 * (1 - alpha) * clean + alpha**0.5 * (1 - after) * z) / (1 - now)
    return mean, ((1 - after) / (1 - now) * (1 - alpha)) ** 0.5

"""Ancestral sampling of a prior, pulled towards a noisy measurement after each step (Dn-Dp)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

from man_core.diffusion.samplers import CleanModel, NoiseSource, posterior
from man_core.diffusion.schedule import Schedule


def map_sampling(
    model: CleanModel,
    z: Tensor,
    low: Tensor,
    path: Sequence[int],
    schedule: Schedule,
    weight: Tensor | float,
    noise: NoiseSource,
    after_step: Callable[[], None],
) -> Tensor:
    """Sample along a path, each state the most probable one given prior and low dose.

    Between the posterior of the prior, of mean mu and deviation s, and the low dose noised to the
    same step, y_t, the state is z_t = (y_t + w mu) / (1 + w) with w = weight sqrt(abar_t) / s (Liu
    et al. 2025). At step 0, where s is 0, it is mu.

    Args:
        model: Predicts the clean slice.
        z: State at the first step of the path [batch, 1, row, column].
        low: Low-dose slice, same shape.
        path: Descending steps, the last one that of the result; 0 is the clean slice.
        schedule: Noise levels.
        weight: Trust in the prior: a number, or one of each pixel, of the shape of ``z``.
        noise: Source of the noise of y_t.
        after_step: Called after each step.

    Returns:
        The state at the last step of the path.
    """
    for step, following in pairwise(path):
        z, std = posterior(model(z, step), z, step, following, schedule)
        if following:
            level = float(schedule.alpha_bar[following])
            noised = math.sqrt(level) * low + math.sqrt(1 - level) * noise(z)
            trust = weight * (math.sqrt(level) / std)
            z = (noised + trust * z) / (1 + trust)
        after_step()
    return z

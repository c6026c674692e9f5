"""Noise schedules: cosine (MAN paper, eq. 4 and 5; Nichol and Dhariwal 2021) and linear (DDPM)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

COSINE_OFFSET = 0.008
"""s of eq. 4, which keeps the first betas from vanishing."""

MAX_BETA = 0.999
"""Clip of eq. 5, without which the last alpha-bar is zero and eq. 6 divides by it."""


@dataclass(frozen=True)
class Schedule:
    """Noise levels of T steps.

    Attributes:
        alpha_bar: float64 [T + 1], cumulative signal share; index 0 is the clean latent, 1.
    """

    alpha_bar: Tensor

    @property
    def steps(self) -> int:
        """T."""
        return self.alpha_bar.numel() - 1

    def at(self, step: Tensor, like: Tensor) -> Tensor:
        """Return alpha-bar [batch, 1, 1, 1] of steps [batch] on the device of ``like``."""
        return self.alpha_bar.to(like.device)[step.long()].view(-1, 1, 1, 1).float()

    def noised(self, z: Tensor, step: Tensor, noise: Tensor) -> Tensor:
        """z_t = sqrt(alpha_bar) z_0 + sqrt(1 - alpha_bar) noise, for steps [batch]."""
        alpha_bar = self.at(step, z)
        return alpha_bar.sqrt() * z + (1 - alpha_bar).sqrt() * noise

    def log_snr(self, step: int) -> float:
        """Lambda of Lu et al. 2022, log(sqrt(alpha_bar) / sqrt(1 - alpha_bar)); not for step 0."""
        alpha_bar = float(self.alpha_bar[step])
        return 0.5 * math.log(alpha_bar / (1 - alpha_bar))

    def step_with_noise(self, ratio: float) -> int:
        """Find the step, not 0, whose noise is nearest to ``ratio`` times its signal.

        This is the matching of NEED (Gao et al. 2025), for the start ``matched`` (decision 0002).
        """
        levels = (1 / self.alpha_bar[1:] - 1).sqrt()
        return 1 + int((levels - ratio).abs().argmin())


def cosine_schedule(steps: int) -> Schedule:
    """Build the schedule of eq. 4, with beta clipped by eq. 5; T = ``steps``.

    Example:
        >>> from man_core.diffusion.schedule import cosine_schedule
        >>> schedule = cosine_schedule(1000)
        >>> [round(float(schedule.alpha_bar[step]), 3) for step in (0, 500, 1000)]
        [1.0, 0.494, 0.0]
    """
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    curve = torch.cos((time + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2
    return _schedule((1 - curve[1:] / curve[:-1]).clamp(max=MAX_BETA))


def linear_schedule(steps: int, first_beta: float, last_beta: float) -> Schedule:
    """Build the schedule of DDPM (Ho et al. 2020, section 4): beta rises evenly; T = ``steps``.

    Example:
        >>> from man_core.diffusion.schedule import linear_schedule
        >>> schedule = linear_schedule(1000, 1e-4, 0.02)
        >>> [round(float(schedule.alpha_bar[step]), 4) for step in (1, 500, 1000)]
        [0.9999, 0.0786, 0.0]
    """
    return _schedule(torch.linspace(first_beta, last_beta, steps, dtype=torch.float64))


def _schedule(beta: Tensor) -> Schedule:
    return Schedule(torch.cat((torch.ones(1, dtype=torch.float64), torch.cumprod(1 - beta, dim=0))))


def timestep_subset(first: int, count: int) -> list[int]:
    """Choose ``count`` evenly spaced steps, descending from ``first``; 0 follows (decision 0002).

    Raises:
        ValueError: More steps are requested than exist.

    Example:
        >>> timestep_subset(990, 3)
        [990, 660, 330]
    """
    if not 1 <= count <= first:
        raise ValueError(f"sampling needs 1 to {first} steps, got {count}")
    return [round(first * (count - index) / count) for index in range(count)]

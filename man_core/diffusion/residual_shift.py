"""Residual shifting (ResShift, Yue et al. 2023): diffusion between two latents in a few steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from man_core.diffusion.samplers import CleanModel, OnStep

MAX_FIRST_ETA = 0.001
"""Largest eta of the first step; the clean latent is then all but untouched (section 2.2)."""

MAX_FIRST_NOISE = 0.04
"""Largest noise of the first step, kappa sqrt(eta), likewise."""

LAST_ETA = 0.999
"""Eta of the last step, where the low-dose latent stands in place of the clean one."""


TIME_SCALE = 1000.0
"""What a network is told at the last step: its time embedding is made for that range, and weights
fitted on a thousand steps go on from there."""


@dataclass(frozen=True)
class ShiftConfig:
    """A residual-shift diffusion.

    Attributes:
        steps: T.
        kappa: Noise of the last step, in units of what the caller takes for the residual's size.
        power: p, how the shift is spread over the steps: below 1 most of it lies in early steps.
    """

    steps: int = 4
    kappa: float = 0.5
    power: float = 0.3

    def __post_init__(self) -> None:
        """Refuse what gives no schedule.

        Raises:
            ValueError: There is no step, or kappa or power is not positive.
        """
        if self.steps < 1 or self.kappa <= 0 or self.power <= 0:
            raise ValueError("shift needs steps of at least 1 and a kappa and power above 0")


@dataclass(frozen=True)
class ShiftSchedule:
    """How far the clean latent is shifted towards the low-dose latent.

    Attributes:
        eta: float64 [T + 1], share of the residual; index 0 is the clean latent, 0.
        kappa: Noise in units of sqrt(eta).
    """

    eta: Tensor
    kappa: float

    @property
    def steps(self) -> int:
        """T."""
        return self.eta.numel() - 1

    def shifted(self, clean: Tensor, low: Tensor, step: Tensor, noise: Tensor) -> Tensor:
        """z_t = z_0 + eta_t (z_LD - z_0) + kappa sqrt(eta_t) noise (ResShift, section 2.1)."""
        eta = self.eta.to(clean.device)[step.long()].view(-1, 1, 1, 1).float()
        return clean + eta * (low - clean) + self.kappa * eta.sqrt() * noise

    def time(self, step: Tensor) -> Tensor:
        """What a network is told of steps [batch]: T is ``TIME_SCALE``."""
        return step * (TIME_SCALE / self.steps)

    def start(self, low: Tensor, noise: Tensor) -> Tensor:
        """z_T, for which the clean latent need not be known: z_LD + kappa sqrt(eta_T) noise."""
        return low + self.kappa * math.sqrt(self.eta[-1]) * noise


def shift_schedule(config: ShiftConfig) -> ShiftSchedule:
    """Geometric rise of sqrt(eta), its exponent warped by a power (ResShift, section 2.2).

    sqrt(eta_t) = sqrt(eta_1) (eta_T / eta_1) ^ (((t - 1) / (T - 1)) ^ p / 2).
    """
    first = min(MAX_FIRST_ETA, (MAX_FIRST_NOISE / config.kappa) ** 2)
    share = torch.linspace(0, 1, config.steps, dtype=torch.float64) ** config.power
    eta = first * (LAST_ETA / first) ** share
    eta[-1] = LAST_ETA
    return ShiftSchedule(torch.cat((torch.zeros(1, dtype=torch.float64), eta)), config.kappa)


def residual_shift(
    model: CleanModel,
    z: Tensor,
    steps: Sequence[int],
    schedule: ShiftSchedule,
    on_step: OnStep | None = None,
) -> Tensor:
    """Mean of the posterior, step by step (ResShift, section 2.1, without its noise).

    z_{t'} = (eta_{t'} / eta_t) z_t + (1 - eta_{t'} / eta_t) z_0, with the predicted z_0.

    Args:
        model: Answers with the clean latent.
        z: z_T [batch, latent, row, column]; see ``ShiftSchedule.start``.
        steps: Falling steps; after the last comes 0.
        schedule: Shares of the residual.
        on_step: Progress.

    Returns:
        z_0 of z's shape.
    """
    for done, (step, following) in enumerate(pairwise((*steps, 0)), start=1):
        kept = float(schedule.eta[following] / schedule.eta[step])
        z = kept * z + (1 - kept) * model(z, step)
        if on_step is not None:
            on_step(done, len(steps))
    return z


def residual_ddim(
    model: CleanModel,
    z: Tensor,
    low: Tensor,
    steps: Sequence[int],
    schedule: ShiftSchedule,
    on_step: OnStep | None = None,
) -> Tensor:
    """The deterministic path that keeps the marginals (SinSR, Wang et al. 2024, section 3.2).

    z_{t'} = z_0 + eta_{t'} (z_LD - z_0) + sqrt(eta_{t'} / eta_t) (z_t - z_0 - eta_t (z_LD - z_0)),
    with the predicted z_0: at every step the noise is as strong as the network was fitted to.

    Args:
        model: Answers with the clean latent.
        z: z_T [batch, latent, row, column]; see ``ShiftSchedule.start``.
        low: The low-dose latent, same shape.
        steps: Falling steps; after the last comes 0.
        schedule: Shares of the residual.
        on_step: Progress.

    Returns:
        z_0 of z's shape.
    """
    for done, (step, following) in enumerate(pairwise((*steps, 0)), start=1):
        now, after = float(schedule.eta[step]), float(schedule.eta[following])
        clean = model(z, step)
        noise = z - clean - now * (low - clean)
        z = clean + after * (low - clean) + math.sqrt(after / now) * noise
        if on_step is not None:
            on_step(done, len(steps))
    return z

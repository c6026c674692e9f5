"""Residual shifting (ResShift, Yue et al. 2023): diffusion between two latents in few steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from man_core.diffusion.samplers import CleanModel, OnStep, descending

MAX_FIRST_ETA = 0.001
"""Maximum eta of the first step, which leaves the clean latent almost unchanged (section 2.2)."""

MAX_FIRST_NOISE = 0.04
"""Maximum noise of the first step, kappa sqrt(eta)."""

LAST_ETA = 0.999
"""Eta of the last step, at which the low-dose latent replaces the clean one."""

TIME_SCALE = 1000.0
"""Time input of the network at the last step: its time embedding is made for this range, so that
training can continue from weights trained with a thousand steps."""


@dataclass(frozen=True)
class ShiftConfig:
    """Parameters of a residual-shift diffusion.

    Attributes:
        steps: T.
        kappa: Noise of the last step, in units of the residual's size, which the caller chooses.
        power: p, distribution of the shift: below 1 most of it is in early steps.
    """

    steps: int = 4
    kappa: float = 0.5
    power: float = 0.3

    def __post_init__(self) -> None:
        """Reject values that give no schedule.

        Raises:
            ValueError: There is no step, or kappa or power is not positive.
        """
        if self.steps < 1 or self.kappa <= 0 or self.power <= 0:
            raise ValueError("A residual shift needs at least 1 step, and kappa and power above 0.")


@dataclass(frozen=True)
class ShiftSchedule:
    """Shift of the clean latent towards the low-dose latent at every step.

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
        """Return the time input of the network for steps [batch]; T maps to ``TIME_SCALE``."""
        return step * (TIME_SCALE / self.steps)

    def start(self, low: Tensor, noise: Tensor) -> Tensor:
        """z_T = z_LD + kappa sqrt(eta_T) noise, which does not require the clean latent."""
        return low + self.kappa * math.sqrt(self.eta[-1]) * noise


def shift_schedule(config: ShiftConfig) -> ShiftSchedule:
    """Build the geometric schedule of sqrt(eta), its exponent warped by a power (section 2.2).

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
        model: Predicts the clean latent.
        z: z_T [batch, latent, row, column]; see ``ShiftSchedule.start``.
        steps: Descending steps; 0 follows the last.
        schedule: Shares of the residual.
        on_step: Progress callback.

    Returns:
        z_0, of the shape of ``z``.
    """
    for step, following in descending(steps, on_step):
        kept = float(schedule.eta[following] / schedule.eta[step])
        z = kept * z + (1 - kept) * model(z, step)
    return z


def residual_ddim(
    model: CleanModel,
    z: Tensor,
    low: Tensor,
    steps: Sequence[int],
    schedule: ShiftSchedule,
    on_step: OnStep | None = None,
) -> Tensor:
    """Deterministic path that preserves the marginals (SinSR, Wang et al. 2024, section 3.2).

    z_{t'} = z_0 + eta_{t'} (z_LD - z_0) + sqrt(eta_{t'} / eta_t) (z_t - z_0 - eta_t (z_LD - z_0)),
    with the predicted z_0: at every step the noise has the level that the network was trained on.

    Args:
        model: Predicts the clean latent.
        z: z_T [batch, latent, row, column]; see ``ShiftSchedule.start``.
        low: The low-dose latent, same shape.
        steps: Descending steps; 0 follows the last.
        schedule: Shares of the residual.
        on_step: Progress callback.

    Returns:
        z_0, of the shape of ``z``.
    """
    for step, following in descending(steps, on_step):
        now, after = float(schedule.eta[step]), float(schedule.eta[following])
        clean = model(z, step)
        noise = z - clean - now * (low - clean)
        z = clean + after * (low - clean) + math.sqrt(after / now) * noise
    return z

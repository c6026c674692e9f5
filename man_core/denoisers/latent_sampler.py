"""Sampling of a clean latent from a low-dose latent: sampler, steps and starting point."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from man_core.diffusion.names import SAMPLERS
from man_core.diffusion.parametrization import clean_from
from man_core.diffusion.residual_shift import residual_ddim, residual_shift, shift_schedule
from man_core.diffusion.samplers import NoiseSource, OnStep, ddim, ddpm, dpmpp_2m
from man_core.diffusion.schedule import cosine_schedule, timestep_subset
from man_core.nets.man import ManConfig, ManNetwork
from man_core.nets.unet import Context


class LatentSampler(ABC):
    """Draws clean latents by repeated evaluation of the U-Net."""

    def __init__(self, network: ManNetwork) -> None:
        self.network = network
        self.config = network.config

    def predict_clean(
        self,
        z: Tensor,
        step: int,
        low: Tensor,
        position: Tensor,
        context: Context | None = None,
        gain: Tensor | None = None,
    ) -> Tensor:
        """Predict the clean latent from z_t, clamped.

        The clamp is wider than the low-dose latent: in the finest channels an edge of metal or of
        the table lies dozens of standard deviations out and must be preserved.
        """
        steps = torch.full((len(z),), step, device=z.device)
        output = self.network.predict(z, self.time(steps), low, position, context, gain)
        clean = clean_from(self.config.prediction, output, z, self.level(step), low)
        reach = self.config.latent_clamp + low.abs()
        return clean.clamp(-reach, reach)

    @abstractmethod
    def time(self, steps: Tensor) -> Tensor:
        """Return the time input of the network for steps [batch]."""

    @abstractmethod
    def level(self, step: int) -> Tensor:
        """Return alpha-bar of a step, a scalar on the CPU: a device takes it without waiting."""

    @abstractmethod
    def sample(
        self,
        low: Tensor,
        position: Tensor,
        noise: NoiseSource,
        on_step: OnStep | None = None,
        gain: Tensor | None = None,
        beside: Tensor | None = None,
    ) -> Tensor:
        """Draw the clean latent of a low-dose latent.

        Args:
            low: E(LD) [batch, latent, row, column], standardised.
            position: (top, left, bottom, right) of the crops, fractions of their slices [batch, 4].
            noise: Source of the starting noise and of the noise that ancestral sampling adds.
            on_step: Progress callback.
            gain: Dose gains [batch], for a network that is told them.
            beside: Neighbouring slices (``ManNetwork.beside``); None: none.

        Returns:
            z_0, of the shape of ``low``.
        """


class CosineSampler(LatentSampler):
    """DDIM, DPM-Solver++(2M) or ancestral sampling on the cosine schedule.

    Args:
        network: Trained network.
        sampler: One of ``SAMPLERS["cosine"]``.
        steps: Evaluations of the U-Net; a matched start takes one more.

    Raises:
        ValueError: More steps are requested than the schedule has.
    """

    def __init__(self, network: ManNetwork, sampler: str, steps: int) -> None:
        super().__init__(network)
        self._sampler, self._steps = sampler, steps
        self._schedule = cosine_schedule(self.config.diffusion_steps)
        self._subset = timestep_subset(self.config.first_step, steps)

    def time(self, steps: Tensor) -> Tensor:
        """Return the steps themselves."""
        return steps

    def level(self, step: int) -> Tensor:
        """Return alpha-bar from the schedule."""
        return self._schedule.alpha_bar[step].float()

    def sample(
        self,
        low: Tensor,
        position: Tensor,
        noise: NoiseSource,
        on_step: OnStep | None = None,
        gain: Tensor | None = None,
        beside: Tensor | None = None,
    ) -> Tensor:
        """See ``LatentSampler.sample``."""
        context = self.network.unet.context_of(low, position, beside)

        def model(z: Tensor, step: int) -> Tensor:
            return self.predict_clean(z, step, low, position, context, gain)

        z, subset = noise(low), self._subset
        if self.config.start == "matched":
            subset = self._matched(low, model(z, self.config.first_step))
        if self.config.start != "noise":
            level = self.level(subset[0])
            z = level.sqrt() * low + (1 - level).sqrt() * z
        if self._sampler == "ddpm":
            return ddpm(model, z, subset, self._schedule, noise, on_step)
        solve = {"ddim": ddim, "dpmpp-2m": dpmpp_2m}[self._sampler]
        return solve(model, z, subset, self._schedule, on_step)

    def _matched(self, low: Tensor, clean: Tensor) -> list[int]:
        """Return steps from where the schedule has the noise of the low dose (decision 0002)."""
        own = float((low - clean).square().mean().sqrt())
        first = min(self._schedule.step_with_noise(own), self.config.first_step)
        return timestep_subset(first, min(self._steps, first))


class ShiftSampler(LatentSampler):
    """Residual shifting, which starts from the low-dose latent.

    Args:
        network: Network trained with ``diffusion: residual-shift``.
        sampler: One of ``SAMPLERS["residual-shift"]``.
        steps: Evaluations of the U-Net.

    Raises:
        ValueError: More steps are requested than the schedule has.
    """

    def __init__(self, network: ManNetwork, sampler: str, steps: int) -> None:
        super().__init__(network)
        self._sampler = sampler
        self._schedule = shift_schedule(self.config.shift)
        self._subset = timestep_subset(self._schedule.steps, steps)

    def time(self, steps: Tensor) -> Tensor:
        """See ``ShiftSchedule.time``."""
        return self._schedule.time(steps)

    def level(self, step: int) -> Tensor:
        """Always 1: the prediction does not depend on the noise level here."""
        return torch.ones(())

    def sample(
        self,
        low: Tensor,
        position: Tensor,
        noise: NoiseSource,
        on_step: OnStep | None = None,
        gain: Tensor | None = None,
        beside: Tensor | None = None,
    ) -> Tensor:
        """See ``LatentSampler.sample``."""
        context = self.network.unet.context_of(low, position, beside)

        def model(z: Tensor, step: int) -> Tensor:
            return self.predict_clean(z, step, low, position, context, gain)

        z = self._schedule.start(low, self.network.residual_scale * noise(low))
        if self._sampler == "residual-ddim":
            return residual_ddim(model, z, low, self._subset, self._schedule, on_step)
        return residual_shift(model, z, self._subset, self._schedule, on_step)


def latent_sampler(network: ManNetwork, sampler: str, steps: int) -> LatentSampler:
    """Build the sampler of a name for a network.

    Raises:
        ValueError: The network was not trained for it, or there are too many steps.
    """
    known = SAMPLERS[network.config.diffusion]
    if sampler not in known:
        raise ValueError(f"it cannot be sampled by {sampler!r}; use {' or '.join(known)}")
    if network.config.diffusion == "residual-shift":
        return ShiftSampler(network, sampler, steps)
    return CosineSampler(network, sampler, steps)


def max_steps(config: ManConfig) -> int:
    """Return the maximum number of sampling steps of a network."""
    return config.shift.steps if config.diffusion == "residual-shift" else config.first_step

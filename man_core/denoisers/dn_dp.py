"""Dn-Dp: zero-shot denoising by a diffusion prior on full dose (Liu et al., Med Phys 2025)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from man_core.card import ModelCard, Precision
from man_core.denoiser import OnStep
from man_core.denoisers.pixel_diffusion import PixelDiffusionDenoiser, load_sampled
from man_core.diffusion.map_step import map_sampling
from man_core.diffusion.samplers import NoiseSource
from man_core.nets.dn_dp import DnDp, DnDpConfig
from man_core.nets.pixel_diffusion import PixelDiffusion

SAMPLER = "map"
"""Name of its sampler in cards."""

RESUMED_STEPS = 3
"""Last steps of full resolution that are sampled again, with the adaptive weight."""


class DnDpSampler:
    """Samples both stages; the low dose enters by the MAP step alone.

    Args:
        network: Trained network.
        runs: Averaged runs; None: those of the configuration.
    """

    def __init__(self, network: DnDp, runs: int | None = None) -> None:
        self.network = network
        self._runs = runs or network.config.runs

    @property
    def alignment(self) -> int:
        """See ``SliceSampler``."""
        return self.network.config.alignment

    def sample(
        self, x: Tensor, noise: NoiseSource, on_step: OnStep | None = None, *, steps: int
    ) -> Tensor:
        """See ``SliceSampler.sample``; ``steps`` are those of each stage.

        Raises:
            ValueError: More steps are requested than there are.
        """
        standard, path = self.network.config.low.standard, [*self.network.config.subset(steps), 0]
        low = standard.apply(x)
        after_step = _counted(on_step, self._runs * (2 * steps + min(steps, RESUMED_STEPS)))
        total = torch.zeros_like(low)
        for _ in range(self._runs):
            total += self._run(low, path, noise, after_step)
        return standard.undo(total / self._runs)

    def _run(
        self, low: Tensor, path: list[int], noise: NoiseSource, after_step: Callable[[], None]
    ) -> Tensor:
        network, weights = self.network, self.network.config.weights
        small = network.reduced(low)

        def along(
            stage: PixelDiffusion,
            guide: Tensor | None,
            z: Tensor,
            seen: Tensor,
            part: list[int],
            weight: Tensor | float,
        ) -> Tensor:
            def model(state: Tensor, step: int) -> Tensor:
                return stage.predict_clean(state, step, guide)

            return map_sampling(model, z, seen, part, stage.schedule, weight, noise, after_step)

        clean = along(network.low, None, noise(small), small, path, weights.low)
        guide, cut = network.enlarged(clean), max(0, len(path) - 1 - RESUMED_STEPS)
        z = along(network.high, guide, noise(low), low, path[: cut + 1], weights.high)
        first = along(network.high, guide, z, low, path[cut:], weights.high)
        adaptive = weights.adaptive(low - first)
        return along(network.high, guide, z, low, path[cut:], adaptive)


def _counted(on_step: OnStep | None, total: int) -> Callable[[], None]:
    """Return what counts the steps of all stages and runs and reports each."""
    done = 0

    def after_step() -> None:
        nonlocal done
        done += 1
        if on_step is not None:
            on_step(done, total)

    return after_step


def load(
    card: ModelCard, folder: Path, device: str, steps: int | None, precision: Precision
) -> PixelDiffusionDenoiser:
    """Build the denoiser of a card whose weights are in ``folder``.

    Raises:
        ModelError: Weights unreadable, changed or of another network; no such device; another
            sampler; too many steps.
    """

    def sampler(network: DnDp, name: str) -> DnDpSampler:
        if name != SAMPLER:
            raise ValueError(f"it cannot be sampled by {name!r}; use {SAMPLER}")
        return DnDpSampler(network)

    def build(config: dict[str, object]) -> DnDp:
        return DnDp(DnDpConfig.from_dict(config))

    return load_sampled(card, folder, device, steps, precision, build, sampler)

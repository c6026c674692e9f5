"""Noise of sampling, the same for every slice and on every device."""

from __future__ import annotations

import torch
from torch import Tensor

from man_core.diffusion.samplers import NoiseSource


def shared_noise(generator: torch.Generator) -> NoiseSource:
    """Return a source of noise shared by all slices of a batch and drawn on the CPU.

    Every device thus gets the same noise. It is copied without waiting for the device.
    """

    def noise(like: Tensor) -> Tensor:
        drawn = torch.randn(like[:1].shape, generator=generator, pin_memory=like.is_cuda)
        return drawn.to(like, non_blocking=True).expand_as(like)

    return noise

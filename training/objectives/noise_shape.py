"""Shape of the noise that is left: how evenly it is removed over spatial frequency.

A loss that compares with full dose alone removes fast noise and leaves slow noise, because slow
noise looks like anatomy; readers call the result plastic. The spectrum of the result itself does
not show it, since anatomy is slow as well. Half the difference of two results, from crops whose
noise differs only in its sign, is free of anatomy.
"""

from __future__ import annotations

import torch
from torch import Tensor

RINGS = 16
"""Rings of frequency between 0 and 0.5 cycles/pixel."""

MIN_SHARE = 0.05
"""Added to the share that is left, so that a result without noise has a bounded loss."""

MIN_NOISE_HU = 1.0
"""Crops with less noise (standard deviation) are not compared: untouched ones have none."""


def uneven_noise(left: Tensor, noise: Tensor, weight: Tensor) -> Tensor:
    """Compute the part of the noise left that is no even share of the input's noise.

    0 for a result whose noise has the spectrum of its input's, whatever its amplitude; below 1.

    Args:
        left: Noise in the result [batch, 1, row, column], HU.
        noise: Noise of the input, same shape.
        weight: Weight of each crop [batch].

    Returns:
        Weighted mean over the crops that have noise.
    """
    present = (noise.std(dim=(1, 2, 3)) > MIN_NOISE_HU).to(noise.dtype)
    before, after = _amplitude(noise), _amplitude(left)
    energy = before.square().sum(dim=1) + 1e-6
    share = (before * after).sum(dim=1) / energy
    uneven = (after - share[:, None] * before).square().sum(dim=1)
    uneven = uneven / (after.square().sum(dim=1) + MIN_SHARE**2 * energy)
    return (present * weight * uneven).sum() / present.sum().clamp(min=1.0)


def _amplitude(hu: Tensor) -> Tensor:
    """Compute the root mean square of the Fourier coefficients in each ring [batch, ring], HU."""
    rows, columns = hu.shape[-2:]
    window = _hann(rows, hu)[:, None] * _hann(columns, hu)
    power = torch.fft.rfft2((hu * window)[:, 0], norm="ortho").abs().square()
    ring = _rings(rows, columns, hu.device)
    flat = power.flatten(1)
    total = flat.new_zeros((len(flat), RINGS + 1)).index_add(1, ring, flat)
    count = flat.new_zeros(RINGS + 1).index_add(0, ring, torch.ones_like(flat[0]))
    amplitude: Tensor = (total / count + 1e-12).sqrt()
    return amplitude[:, :RINGS]


def _hann(length: int, like: Tensor) -> Tensor:
    return torch.hann_window(length, periodic=False, dtype=like.dtype, device=like.device)


def _rings(rows: int, columns: int, device: torch.device) -> Tensor:
    """Return the ring of each coefficient of ``rfft2``; ``RINGS`` above 0.5 cycles/pixel."""
    down = torch.fft.fftfreq(rows, device=device)[:, None]
    across = torch.fft.rfftfreq(columns, device=device)
    frequency = (down.square() + across.square()).sqrt()
    ring: Tensor = (frequency * 2 * RINGS).long()
    return ring.clamp(max=RINGS).flatten()

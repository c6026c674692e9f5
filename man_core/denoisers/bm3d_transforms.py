"""Transforms of BM3D (Dabov et al. 2007, section II and table I), as matrices.

A block of pixels is transformed along its rows and columns, a group of blocks also across them. The
variance that noise has in a coefficient follows from the power spectrum of the noise, whatever the
transform; noise of different blocks of a group counts as independent (Dabov et al. 2008).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

BLOCK_PIXELS = 8
"""Side of a block."""

KAISER_BETA = 2.0
"""Shape of the window by which pixels of a block are weighted."""

_BIOR15_LOW_PASS = (3.0, -3.0, -22.0, 22.0, 128.0, 128.0, 22.0, -22.0, -3.0, 3.0)
"""Analysis low-pass of the biorthogonal spline wavelet 1.5 times 128 (Cohen et al. 1992)."""

_MIN_VARIANCE_SHARE = 1e-6
"""Least variance of a coefficient over the mean: none is free of noise, if only by rounding."""


@lru_cache(maxsize=1)
def dct_blocks() -> tuple[Tensor, Tensor]:
    """Return the orthonormal cosine transform of blocks; see ``_of_blocks``."""
    size = BLOCK_PIXELS
    places = torch.arange(size, dtype=torch.float64)
    line = torch.cos(math.pi / size * torch.outer(places, places + 0.5)) * math.sqrt(2.0 / size)
    line[0] /= math.sqrt(2.0)
    return _of_blocks(line)


@lru_cache(maxsize=1)
def wavelet_blocks() -> tuple[Tensor, Tensor]:
    """Return the biorthogonal spline wavelet transform 1.5 of blocks; see ``_of_blocks``."""
    line, length = torch.eye(BLOCK_PIXELS, dtype=torch.float64), BLOCK_PIXELS
    while length > 1:
        line[:length] = _analysis(length) @ line[:length]
        length //= 2
    return _of_blocks(line)


@lru_cache(maxsize=8)
def haar(blocks: int) -> Tensor:
    """Return the orthonormal Haar transform across a group; the first row is the mean.

    Args:
        blocks: Number of blocks of the group, a power of two.

    Returns:
        float32 [coefficient, block].
    """
    line = torch.ones(1, 1, dtype=torch.float64)
    while len(line) < blocks:
        coarse = torch.kron(line, torch.tensor([[1.0, 1.0]], dtype=torch.float64))
        fine = torch.kron(
            torch.eye(len(line), dtype=torch.float64),
            torch.tensor([[1.0, -1.0]], dtype=torch.float64),
        )
        line = torch.cat((coarse, fine)) / math.sqrt(2.0)
    return line.float()


@lru_cache(maxsize=1)
def kaiser_window() -> Tensor:
    """Return the weights of the pixels of a block, float32 [pixel]."""
    line = torch.kaiser_window(BLOCK_PIXELS, periodic=False, beta=KAISER_BETA)
    return torch.outer(line, line).flatten()


def coefficient_variances(transform: Tensor, power: Tensor) -> Tensor:
    """Compute the variance that noise has in each coefficient of a block.

    Args:
        transform: [coefficient, pixel].
        power: Power spectrum of the noise [row frequency, column frequency] in the order of a
            discrete Fourier transform, of at least two blocks a side; its mean is the variance of
            a pixel.

    Returns:
        float32 [coefficient].
    """
    correlation = torch.fft.ifft2(power.double()).real
    place = torch.arange(BLOCK_PIXELS)
    rows, columns = (axis.flatten() for axis in torch.meshgrid(place, place, indexing="ij"))
    covariance = correlation[rows[:, None] - rows, columns[:, None] - columns]
    matrix = transform.double()
    variances: Tensor = ((matrix @ covariance) * matrix).sum(dim=1)
    least = _MIN_VARIANCE_SHARE * float(variances.mean())
    return variances.clamp_min(least).float()


def _of_blocks(line: Tensor) -> tuple[Tensor, Tensor]:
    """Return the transform of blocks for that of their rows and columns, and its inverse.

    Args:
        line: float64 [coefficient, place].

    Returns:
        float32 [coefficient, pixel] and [pixel, coefficient]; the first coefficient is the mean.
    """
    matrix = torch.kron(line, line)
    return matrix.float(), torch.linalg.inv(matrix).float()


def _analysis(length: int) -> Tensor:
    """Return one level of the periodic wavelet transform, averages first, then differences."""
    matrix = torch.zeros(length, length, dtype=torch.float64)
    half, first = length // 2, 1 - len(_BIOR15_LOW_PASS) // 2
    for row in range(half):
        for tap, weight in enumerate(_BIOR15_LOW_PASS):
            matrix[row, (2 * row + first + tap) % length] += weight / 128.0 / math.sqrt(2.0)
        matrix[half + row, 2 * row] = math.sqrt(0.5)
        matrix[half + row, 2 * row + 1] = -math.sqrt(0.5)
    return matrix

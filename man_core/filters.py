"""Averages, derivatives and extremes of slices [slice, row, column]."""

from __future__ import annotations

import math
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional

_TRUNCATION_SIGMAS = 3.0
"""Truncation of the Gaussian kernel, in standard deviations."""


def gaussian(image: Tensor, sigma: float) -> Tensor:
    """Gaussian filter, sigma in pixels; edge pixels are replicated."""
    reach = max(1, math.ceil(_TRUNCATION_SIGMAS * sigma))
    weights = [math.exp(-0.5 * (place / sigma) ** 2) for place in range(-reach, reach + 1)]
    return _averaged(image, weights)


def box(image: Tensor, size: int) -> Tensor:
    """Mean over a square of odd size; edge pixels are replicated."""
    return _averaged(image, [1.0] * size)


def halved(image: Tensor) -> Tensor:
    """Mean of 2 x 2 pixels; an odd last row or column is dropped."""
    return functional.avg_pool2d(image, 2)


def laplacian(image: Tensor) -> Tensor:
    """Sum of both second derivatives, per pixel squared."""
    p = _continued(image, 1, 1)
    rows = p[:, 2:, 1:-1] + p[:, :-2, 1:-1]
    return rows + p[:, 1:-1, 2:] + p[:, 1:-1, :-2] - 4.0 * image


def gradient(image: Tensor) -> Tensor:
    """Magnitude of the gradient, per pixel."""
    p = _continued(image, 1, 1)
    return 0.5 * torch.hypot(p[:, 2:, 1:-1] - p[:, :-2, 1:-1], p[:, 1:-1, 2:] - p[:, 1:-1, :-2])


def extremes(image: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Minimum and maximum within a square of odd size."""
    low = high = image
    for dim in (-2, -1):
        low = reduce(torch.minimum, _shifted(low, size // 2, dim))
        high = reduce(torch.maximum, _shifted(high, size // 2, dim))
    return low, high


def block_sums(image: Tensor, size: int) -> Tensor:
    """Sums over square blocks [block] of all slices; blocks at the far edges may be smaller."""
    rows, columns = image.shape[-2:]
    whole = functional.pad(image, (0, -columns % size, 0, -rows % size))
    return functional.avg_pool2d(whole, size, divisor_override=1).flatten()


def _averaged(image: Tensor, weights: list[float]) -> Tensor:
    """Sum shifted images: many times faster on a CPU than a convolution of one channel."""
    for dim in (-2, -1):
        total = torch.zeros_like(image)
        for one, weight in zip(_shifted(image, len(weights) // 2, dim), weights, strict=True):
            total.add_(one, alpha=weight / sum(weights))
        image = total
    return image


def _shifted(image: Tensor, reach: int, dim: int) -> list[Tensor]:
    """Return views of an image shifted along a dimension by -reach to reach pixels."""
    whole = _continued(image, reach, 0) if dim == -2 else _continued(image, 0, reach)
    return [whole.narrow(dim, shift, image.shape[dim]) for shift in range(2 * reach + 1)]


def _continued(image: Tensor, rows: int, columns: int) -> Tensor:
    """Pad an image [..., row, column] by replicating its edge pixels."""
    stack = image.reshape(-1, 1, *image.shape[-2:])
    whole = functional.pad(stack, (columns, columns, rows, rows), mode="replicate")
    return whole.reshape(*image.shape[:-2], *whole.shape[-2:])

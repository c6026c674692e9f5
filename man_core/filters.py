"""Averages, sums and extremes of slices [slice, row, column]."""

from __future__ import annotations

import math
from collections.abc import Callable

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


def continued(image: Tensor, rows: int, columns: int) -> Tensor:
    """Pad an image [..., row, column] by replicating its edge pixels."""
    stack = image.reshape(-1, 1, *image.shape[-2:])
    whole = functional.pad(stack, (columns, columns, rows, rows), mode="replicate")
    return whole.reshape(*image.shape[:-2], *whole.shape[-2:])


def extremes(image: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Minimum and maximum within a square of odd size."""
    low = high = continued(image, size // 2, size // 2)
    for dim in (-2, -1):
        low = sliding(low, size, dim, torch.minimum)
        high = sliding(high, size, dim, torch.maximum)
    return low, high


def box_sums(image: Tensor, size: int) -> Tensor:
    """Sum over a square of odd size; edge pixels are replicated.

    Faster than ``box`` and rounded differently.
    """
    total = continued(image, size // 2, size // 2)
    for dim in (-2, -1):
        total = sliding(total, size, dim, torch.add)
    return total


def sliding(
    image: Tensor, size: int, dim: int, combine: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Combine each ``size`` neighbours along a dimension, in passes of doubled width.

    Args:
        image: Any shape.
        size: Number of neighbours.
        dim: The dimension; its length falls by ``size - 1``.
        combine: An associative operation, such as a sum or a maximum.
    """
    if size == 1:
        return image
    half, length = size // 2, image.shape[dim] - size + 1
    parts = sliding(image, half, dim, combine)
    whole = parts.shape[dim] - half
    pairs = combine(parts.narrow(dim, 0, whole), parts.narrow(dim, half, whole))
    if size % 2 == 0:
        return pairs
    return combine(pairs.narrow(dim, 0, length), image.narrow(dim, size - 1, length))


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
    whole = continued(image, reach, 0) if dim == -2 else continued(image, 0, reach)
    return [whole.narrow(dim, shift, image.shape[dim]) for shift in range(2 * reach + 1)]

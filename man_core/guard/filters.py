"""Averages, slopes and extremes of slices [slice, row, column], for the guard's statistics."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_REACH = 3.0
"""Standard deviations at which a Gaussian is cut off."""


def gaussian(image: Tensor, sigma: float) -> Tensor:
    """Gaussian average, sigma in pixels; edges are continued."""
    reach = max(1, math.ceil(_REACH * sigma))
    place = torch.arange(-reach, reach + 1, dtype=image.dtype)
    weight = torch.exp(-0.5 * (place / sigma) ** 2)
    weight = weight / weight.sum()
    stack = image.reshape(-1, 1, *image.shape[-2:])
    stack = functional.conv2d(_continued(stack, reach, 0), weight[None, None, :, None])
    stack = functional.conv2d(_continued(stack, 0, reach), weight[None, None, None, :])
    return stack.reshape(image.shape)


def box(image: Tensor, size: int) -> Tensor:
    """Mean over a square of an odd size; edges are continued."""
    return functional.avg_pool2d(_continued(image[:, None], size // 2, size // 2), size, 1)[:, 0]


def halved(image: Tensor) -> Tensor:
    """Means of 2 x 2 pixels; an odd last row or column is left out."""
    return functional.avg_pool2d(image, 2)


def laplacian(image: Tensor) -> Tensor:
    """Sum of both second derivatives, per pixel squared."""
    p = _continued(image[:, None], 1, 1)[:, 0]
    rows = p[:, 2:, 1:-1] + p[:, :-2, 1:-1]
    return rows + p[:, 1:-1, 2:] + p[:, 1:-1, :-2] - 4.0 * image


def gradient(image: Tensor) -> Tensor:
    """Size of the gradient, per pixel."""
    p = _continued(image[:, None], 1, 1)[:, 0]
    return 0.5 * torch.hypot(p[:, 2:, 1:-1] - p[:, :-2, 1:-1], p[:, 1:-1, 2:] - p[:, 1:-1, :-2])


def extremes(image: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Lowest and highest value within a square of an odd size."""
    pair = torch.stack((-image, image), dim=1)
    low, high = functional.max_pool2d(pair, size, 1, size // 2).unbind(1)
    return -low, high


def block_sums(image: Tensor, size: int) -> Tensor:
    """Sums over squares [block] of all slices; those at the far edges may be smaller."""
    rows, columns = image.shape[-2:]
    whole = functional.pad(image, (0, -columns % size, 0, -rows % size))
    return functional.avg_pool2d(whole, size, divisor_override=1).flatten()


def _continued(stack: Tensor, rows: int, columns: int) -> Tensor:
    return functional.pad(stack, (columns, columns, rows, rows), mode="replicate")

"""Filters: to the last bit a plain sum over neighbours, since derived images depend on some."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from man_core import filters

SHAPES = [(1, 1, 1), (2, 2, 9), (1, 7, 13), (3, 64, 64), (2, 65, 131), (2, 2, 33, 47)]


def image(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 500.0


def averaged(hu: Tensor, weights: list[float]) -> Tensor:
    """Sum of shifted images, first along columns, then along rows."""
    reach = len(weights) // 2
    for dim, margin in ((-2, (reach, 0)), (-1, (0, reach))):
        whole, total = filters.continued(hu, *margin), torch.zeros_like(hu)
        for shift, weight in enumerate(weights):
            part = whole.narrow(dim, shift, hu.shape[dim]).contiguous()
            total.add_(part, alpha=weight / sum(weights))
        hu = total
    return hu


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_gaussian(shape: tuple[int, ...], sigma: float) -> None:
    reach = max(1, math.ceil(3.0 * sigma))
    weights = [math.exp(-0.5 * (place / sigma) ** 2) for place in range(-reach, reach + 1)]
    assert torch.equal(filters.gaussian(image(shape), sigma), averaged(image(shape), weights))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 3, 5])
def test_box(shape: tuple[int, ...], size: int) -> None:
    assert torch.equal(filters.box(image(shape), size), averaged(image(shape), [1.0] * size))


@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 7, 12), (3, 64, 33)])
def test_halved_drops_an_odd_last_row_or_column(shape: tuple[int, ...]) -> None:
    pooled = functional.avg_pool2d(image(shape), 2)
    torch.testing.assert_close(filters.halved(image(shape)), pooled, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 16, 32), (2, 33, 7)])
def test_block_sums(shape: tuple[int, ...]) -> None:
    whole = functional.pad(image(shape), (0, -shape[2] % 16, 0, -shape[1] % 16))
    pooled = functional.avg_pool2d(whole, 16, divisor_override=1).flatten(1)
    torch.testing.assert_close(filters.block_sums(image(shape), 16), pooled, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_within_reach(reach: int) -> None:
    mask = torch.zeros(2, 9, 11, dtype=torch.bool)
    mask[0, 0, 3] = mask[0, 8, 10] = mask[1, 4, 4] = True
    near = functional.max_pool2d(mask.float(), 2 * reach + 1, 1, reach)
    assert torch.equal(filters.within_reach(mask, reach), near.bool())

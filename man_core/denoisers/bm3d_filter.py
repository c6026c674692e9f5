"""Collaborative filtering of BM3D (Dabov et al. 2007): hard thresholding, then Wiener filtering.

Groups of similar blocks are filtered together in the domain of a three-dimensional transform. As
everything after it is linear, coefficients are summed up by the position of their block first and
transformed back afterwards, once for each position instead of once for each block of each group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from man_core import filters
from man_core.denoisers.bm3d_matching import Groups, match_blocks, with_whole_steps
from man_core.denoisers.bm3d_transforms import (
    BLOCK_PIXELS,
    coefficient_variances,
    dct_blocks,
    haar,
    kaiser_window,
    wavelet_blocks,
)

THRESHOLD_SIGMAS = 2.7
"""Hard threshold of a coefficient, in standard deviations of its noise."""

MATCHES = (16, 32)
"""Maximum number of blocks of a group, in the first and in the second stage."""

MAX_DISTANCE_VARIANCES = (4.0, 0.64)
"""Distance up to which blocks match, in variances of the noise: 2500 and 400 at a standard
deviation of 25, as in the paper."""

_BLOCKS_AT_ONCE = {"cpu": 1 << 12, "cuda": 1 << 18}
"""Blocks filtered at once: as many as fit in the cache of a core, or keep a GPU busy."""

Shrink = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes positions [block, group] and the Haar matrix; returns the filtered coefficients [block,
group, coefficient] and the weight [group]."""


def bm3d(image: Tensor, power: Tensor) -> Tensor:
    """Remove stationary noise of a known power spectrum.

    The mean of a group is kept, so that adding a constant to the image adds it to the result.

    Args:
        image: float32 [row, column], of at least a block.
        power: Power spectrum of the noise; see ``coefficient_variances``.

    Returns:
        float32 [row, column].
    """
    variance = float(power.double().mean())
    distances = [share * variance for share in MAX_DISTANCE_VARIANCES]
    rows, columns = image.shape
    whole = with_whole_steps(image)
    basic = _hard(whole, power, match_blocks(whole, MATCHES[0], distances[0]))
    final = _wiener(whole, basic, power, match_blocks(basic, MATCHES[1], distances[1]))
    return final[:rows, :columns]


def _hard(image: Tensor, power: Tensor, groups: Groups) -> Tensor:
    """Return the basic estimate: coefficients below the threshold are noise."""
    forward, inverse = (matrix.to(image.device) for matrix in wavelet_blocks())
    variances = coefficient_variances(forward.cpu(), power.cpu()).to(image.device)
    coefficients = _blocks(image) @ forward.T
    threshold = THRESHOLD_SIGMAS * variances.sqrt()

    def shrink(blocks: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
        group = _across(across, coefficients[blocks])
        kept = filters.indicator(torch.gt, group.abs(), threshold)
        kept[0, :, 0] = 1.0
        noise_left = kept.sum(dim=0) @ variances
        return _across(across.T, group.mul_(kept)), noise_left.reciprocal_()

    return _aggregated(image, groups, shrink, inverse)


def _wiener(image: Tensor, basic: Tensor, power: Tensor, groups: Groups) -> Tensor:
    """Return the final estimate: the basic one tells the signal in each coefficient."""
    forward, inverse = (matrix.to(image.device) for matrix in dct_blocks())
    variances = coefficient_variances(forward.cpu(), power.cpu()).to(image.device)
    noisy, signal = _blocks(image) @ forward.T, _blocks(basic) @ forward.T

    def shrink(blocks: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
        expected = _across(across, signal[blocks]).square_()
        gain = expected.div_(expected + variances)
        gain[0, :, 0] = 1.0
        group = _across(across, noisy[blocks]).mul_(gain)
        noise_left = gain.square_().sum(dim=0) @ variances
        return _across(across.T, group), noise_left.reciprocal_()

    return _aggregated(image, groups, shrink, inverse)


@dataclass
class _Sums:
    """Weighted sums by position of a block.

    Attributes:
        coefficients: [position, coefficient].
        weights: [position].
    """

    coefficients: Tensor
    weights: Tensor

    def add(self, blocks: Tensor, filtered: Tensor, weight: Tensor) -> None:
        """Add groups: positions [block, group], their coefficients, and weights [group].

        On a GPU ``index_put_`` adds in a fixed order, ``index_add_`` does not.
        """
        places = blocks.flatten()
        values = filtered.mul_(weight[:, None]).flatten(0, 1)
        weights = weight.expand(blocks.shape).flatten()
        if values.device.type == "cpu":
            self.coefficients.index_add_(0, places, values)
            self.weights.index_add_(0, places, weights)
        else:
            self.coefficients.index_put_((places,), values, accumulate=True)
            self.weights.index_put_((places,), weights, accumulate=True)


def _aggregated(image: Tensor, groups: Groups, shrink: Shrink, inverse: Tensor) -> Tensor:
    """Filter all groups and average the estimates of each pixel by their weights."""
    positions = (image.shape[0] - BLOCK_PIXELS + 1) * (image.shape[1] - BLOCK_PIXELS + 1)
    sums = _Sums(image.new_zeros(positions, BLOCK_PIXELS**2), image.new_zeros(positions))
    for size in (1 << power for power in range(groups.blocks.shape[1].bit_length())):
        members = groups.blocks[groups.sizes == size, :size].T
        across = haar(size).to(image.device)
        for blocks in torch.split(members, _BLOCKS_AT_ONCE[image.device.type] // size, dim=1):
            sums.add(blocks, *shrink(blocks, across))
    total, weights = torch.zeros_like(image), torch.zeros_like(image)
    shape = image.shape[0] - BLOCK_PIXELS + 1, image.shape[1] - BLOCK_PIXELS + 1
    estimates = (inverse @ sums.coefficients.T).view(-1, *shape)
    for pixel, weight in enumerate(kaiser_window().tolist()):
        row, column = divmod(pixel, BLOCK_PIXELS)
        part = slice(row, row + shape[0]), slice(column, column + shape[1])
        total[part].add_(estimates[pixel], alpha=weight)
        weights[part].add_(sums.weights.view(shape), alpha=weight)
    return total / weights


def _blocks(image: Tensor) -> Tensor:
    """Return the pixels of each block [position, pixel]."""
    windows = image.unfold(0, BLOCK_PIXELS, 1).unfold(1, BLOCK_PIXELS, 1)
    return windows.reshape(-1, BLOCK_PIXELS**2)


def _across(matrix: Tensor, groups: Tensor) -> Tensor:
    """Transform groups [block, group, coefficient] across their blocks."""
    return (matrix @ groups.flatten(1)).view_as(groups)

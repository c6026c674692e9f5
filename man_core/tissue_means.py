"""Restore the source's local mean HU in air, lung and other tissue.

CT numbers are measured as means over areas, to which noise does not contribute. A network may shift
such means by some HU on a scanner it was not trained for: lung of patient L096 by -6 HU. The means
of the source are accurate, so the lost difference is added back. This returns hardly any noise,
since little of it remains in a mean over some thousand pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from man_core import filters
from man_core.hu import CLIPPED_HU

CLIPPED_SHARES = (0.02, 0.04)
"""Shares of clipped pixels nearby between which the weight of the source's mean falls from 1 to 0:
at the first the mean of clipped noise is too high by 1 % of the noise, at the second by 2 %."""

AIR_TO_LUNG_HU = (-970.0, -930.0)
LUNG_TO_TISSUE_HU = (-600.0, -400.0)
"""Local means between which the weight of a pixel moves from one tissue to the next."""

_NEAR_BOX = 5  # of twice the pixel size: tissues are identified by the mean over 10 pixels
_BLOCK = 4  # of the same: the correction is computed for squares of 8 pixels
_SPREAD_BLOCKS = 2.5  # standard deviation of the wide average, 20 pixels
_HALVING_SHARE = 0.05
"""Share of the wide average at which the correction of a tissue is halved, since the mean of few
pixels is still noisy."""


def restore_tissue_means(source: Tensor, result: Tensor) -> Tensor:
    """Restore the local means of the source in air, lung and other tissue.

    Where the source is clipped nearby, the result stays as it is.

    Args:
        source: Input of the network [slice, row, column], HU.
        result: Output of the network, of the same shape.

    Returns:
        The corrected result, HU.
    """
    coarse = _pooled(source, 2)
    lost = coarse - _pooled(result, 2)
    shares = torch.stack(_tissue_shares(source, coarse))
    correction = torch.zeros_like(lost)
    for share, mean in zip(shares, _wide_means(lost, shares), strict=True):
        correction += share * mean
    return result + _enlarged(correction, 2, result)


def _tissue_shares(source: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weight of each pixel in air, lung and other tissue; 0 near clipped pixels."""
    near = filters.box(coarse, _NEAR_BOX)
    clipped = filters.box(_pooled((source <= CLIPPED_HU).to(source.dtype), 2), _NEAR_BOX)
    trusted = 1.0 - _ramp(clipped, *CLIPPED_SHARES)
    above_air, above_lung = _ramp(near, *AIR_TO_LUNG_HU), _ramp(near, *LUNG_TO_TISSUE_HU)
    return (
        trusted * (1.0 - above_air),
        trusted * above_air * (1.0 - above_lung),
        trusted * above_lung,
    )


def _wide_means(lost: Tensor, shares: Tensor) -> Tensor:
    """Average the lost HU over the pixels of each tissue (normalised convolution).

    Args:
        lost: [slice, row, column], HU.
        shares: Weight of each pixel in each tissue [tissue, slice, row, column].

    Returns:
        [tissue, slice, row, column], HU.
    """
    sums = torch.stack((shares * lost, shares)).flatten(0, 2)
    total, area = filters.gaussian(_pooled(sums, _BLOCK), _SPREAD_BLOCKS).chunk(2)
    return _enlarged(total / (area + _HALVING_SHARE), _BLOCK, lost).view_as(shares)


def _ramp(value: Tensor, low: float, high: float) -> Tensor:
    return ((value - low) / (high - low)).clip(0.0, 1.0)


def _pooled(image: Tensor, size: int) -> Tensor:
    return functional.avg_pool2d(image, size, ceil_mode=True)


def _enlarged(image: Tensor, factor: int, like: Tensor) -> Tensor:
    """Interpolate to a finer grid and crop to the size of ``like``."""
    whole = functional.interpolate(image[:, None], scale_factor=factor, mode="bilinear")[:, 0]
    return whole[:, : like.shape[-2], : like.shape[-1]]

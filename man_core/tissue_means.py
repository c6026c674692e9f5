"""HU that stay where they were: the mean of each tissue, taken widely, is the source's.

CT numbers are measured over areas, and noise has no part in them. A network that judges how much of
a loud image is noise may shift such means by some HU where it was never fitted to the scanner: lung
of patient L096 by -6 HU. The source knows them better, so what was taken from them is given back.
Noise is not: averaged over some thousands of pixels little of it is left.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from man_core import filters
from man_core.hu import CLIPPED_HU

CLIPPED_SHARES = (0.02, 0.04)
"""Shares of clipped pixels nearby between which the source's mean is trusted less and less: at the
first the mean of clipped noise is too high by 1 % of the noise, at the second by 2 %."""

AIR_TO_LUNG_HU = (-970.0, -930.0)
LUNG_TO_TISSUE_HU = (-600.0, -400.0)
"""Local means between which a pixel changes gradually from one tissue to the next."""

_NEAR_BOX = 5  # of twice the pixel size: a tissue is told by its mean over 10 pixels
_BLOCK = 4  # of the same: correction is computed for squares of 8 pixels
_SPREAD_BLOCKS = 2.5  # standard deviation of the wide average, 20 pixels
_HALVING_SHARE = 0.05
"""Share of the wide average at which a tissue's correction is halved: of a few pixels the mean is
still noise."""


def keep_tissue_means(source: Tensor, result: Tensor) -> Tensor:
    """The result [slice, row, column] in HU with the source's wide means in air, lung and the rest.

    Where the source is clipped nearby the result stays as it is.
    """
    coarse = _pooled(source, 2)
    lost = coarse - _pooled(result, 2)
    correction = torch.zeros_like(lost)
    for share in _tissue_shares(source, coarse):
        correction += share * _wide_mean(lost, share)
    return result + _enlarged(correction, 2, result)


def _tissue_shares(source: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How much each pixel is air, lung and the rest; of clipped ones less, down to nothing."""
    near = filters.box(coarse, _NEAR_BOX)
    clipped = filters.box(_pooled((source <= CLIPPED_HU).to(source.dtype), 2), _NEAR_BOX)
    trusted = 1.0 - _ramp(clipped, *CLIPPED_SHARES)
    above_air, above_lung = _ramp(near, *AIR_TO_LUNG_HU), _ramp(near, *LUNG_TO_TISSUE_HU)
    return (
        trusted * (1.0 - above_air),
        trusted * above_air * (1.0 - above_lung),
        trusted * above_lung,
    )


def _wide_mean(lost: Tensor, share: Tensor) -> Tensor:
    """Mean of what was lost over the pixels of one tissue (normalised convolution)."""
    total = filters.gaussian(_pooled(share * lost, _BLOCK), _SPREAD_BLOCKS)
    area = filters.gaussian(_pooled(share, _BLOCK), _SPREAD_BLOCKS)
    return _enlarged(total / (area + _HALVING_SHARE), _BLOCK, lost)


def _ramp(value: Tensor, low: float, high: float) -> Tensor:
    return ((value - low) / (high - low)).clip(0.0, 1.0)


def _pooled(image: Tensor, size: int) -> Tensor:
    return functional.avg_pool2d(image, size, ceil_mode=True)


def _enlarged(image: Tensor, factor: int, like: Tensor) -> Tensor:
    """Interpolated to a finer grid, and cut to the size of ``like``."""
    whole = functional.interpolate(image[:, None], scale_factor=factor, mode="bilinear")[:, 0]
    return whole[:, : like.shape[-2], : like.shape[-1]]

"""A few slices of source and result, with the images that the guard's statistics are made of."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from man_core import filters
from man_core.hu import CLIPPED_HU
from man_core.noise import NoiseTexture
from man_core.noise_texture import image_power

EDGE_SIGMA_PIXELS = 1.0
"""Scale at which edges are detected. At smaller ones noise looks like edges."""

BLOB_FWHM_MM = 5.0
"""Width of the average under which a lost or an invented lesion stands out from the noise."""

AIR_HU = -950.0
"""Local mean below which a pixel is air and not searched for lesions."""

EDGE_SHARE = 0.1
"""Share of the local HU range that an averaged residual may reach without being a lesion: edges of
metal, cortical bone and lung walls have their own check."""

MIN_LEVEL_HU = 0.5
"""Minimum noise assumed in an average, so that rounding and a drift of 1 HU in a quiet image are no
lesions. With the default limits a spot is flagged from 3 HU and blocked from 4 HU."""

MAX_NOISE_RATIO = 3.0
"""Maximum ratio of local noise to that in typical soft tissue of the series."""

NEAR_BOX_PIXELS = 5
"""Side of a square of neighbours, in pixels of twice the size."""

NOISE_BOX_PIXELS = 15
"""Side of the square over which the local noise is averaged, in pixels of twice the size."""

_MIN_BLOB_SIGMA_PIXELS = 1.5
_CLIPPED_SHARE = 0.02
_POWER_SIZE = 128


class SlicePair:
    """Some slices of source and result, with derived images."""

    def __init__(
        self, source: Tensor, result: Tensor, pixel_mm: float, void: Tensor | None
    ) -> None:
        smooth, self.smooth = filters.gaussian(torch.stack((source, result)), EDGE_SIGMA_PIXELS)
        self.removed = smooth - self.smooth
        self.sigma = max(
            BLOB_FWHM_MM / math.sqrt(8.0 * math.log(2.0)) / pixel_mm, _MIN_BLOB_SIGMA_PIXELS
        )
        further = math.sqrt(self.sigma**2 - EDGE_SIGMA_PIXELS**2) / 2.0
        halves = torch.stack((filters.halved(smooth), filters.halved(self.removed)))
        self.tissue, self.blob = filters.gaussian(halves, further)
        self.smooth_half = halves[0] - halves[1]
        residual = source - result
        self.change = -filters.halved(residual)
        fine = filters.halved((residual - self.removed) ** 2)
        self.fine = (filters.box_sums(fine, NOISE_BOX_PIXELS) / NOISE_BOX_PIXELS**2).sqrt()
        clipped = source <= CLIPPED_HU
        self.near_void = None if void is None else _within_reach(void, NEAR_BOX_PIXELS // 2)
        if void is not None:
            clipped |= void
        share = filters.box(filters.halved(clipped.to(source.dtype)), NEAR_BOX_PIXELS)
        self.whole = share < _CLIPPED_SHARE

    def edges(self, min_gradient_hu: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return edges of the smoothed result, away from padding.

        Returns:
            Of each pixel [pixel] whose gradient is at least so many HU per pixel: the square of
            twice its gradient, the residual of the smoothed images, and the Laplacian.
        """
        around = filters.continued(self.smooth, 1, 1)
        down = around[:, 2:, 1:-1] - around[:, :-2, 1:-1]
        across = around[:, 1:-1, 2:] - around[:, 1:-1, :-2]
        slope = down.square_().addcmul_(across, across)
        if self.near_void is not None:
            slope.masked_fill_(self.near_void, 0.0)
        slope = slope.flatten()
        place = (slope >= (2.0 * min_gradient_hu) ** 2).nonzero()[:, 0]
        rows, columns = self.smooth.shape[-2:]
        line, width, image = place // columns, columns + 2, around.flatten()
        at = place + 2 * line + 2 * width * (line // rows) + width + 1  # in the padded image
        laplacian = image[at + width] + image[at - width] + image[at + 1] + image[at - 1]
        return slope[place], self.removed.flatten()[place], laplacian - 4.0 * image[at]

    def blob_ratio(self, noise: NoiseTexture) -> Tensor:
        """Return averaged residual over local noise [slice, half row, half column]; 0 in air."""
        kept, fine = averaged_noise_share(noise, self.sigma)
        usual = max(noise.std_hu * kept, MIN_LEVEL_HU)
        level = (self.fine * (kept / fine)).clamp(usual, MAX_NOISE_RATIO * usual)
        low, high = filters.extremes(self.smooth_half, NEAR_BOX_PIXELS)
        excess = self.blob.abs() - EDGE_SHARE * (high - low)
        patient = self.whole & (self.tissue > AIR_HU)
        ratio: Tensor = (excess / level).clamp(min=0.0) * patient
        return ratio


def _within_reach(mask: Tensor, reach: int) -> Tensor:
    """Return the mask of pixels within a square of ``2 * reach + 1`` pixels around a masked one."""
    near = functional.pad(mask, (reach,) * 4)
    for dim in (-2, -1):
        near = filters.sliding(near, 2 * reach + 1, dim, torch.logical_or)
    return near


def averaged_noise_share(noise: NoiseTexture, sigma: float) -> tuple[float, float]:
    """Compute the effect of averages on noise, as shares of its standard deviation.

    Args:
        noise: Noise, of which only the texture matters.
        sigma: Width of a Gaussian average, pixels.

    Returns:
        Share that this average leaves, and share that an average of ``EDGE_SIGMA_PIXELS`` removes.
    """
    return _averaged_noise_share(noise.cutoff, round(sigma, 3))


@lru_cache(maxsize=64)
def _averaged_noise_share(cutoff: float, sigma: float) -> tuple[float, float]:
    power = image_power(_POWER_SIZE, _POWER_SIZE, cutoff)
    line = np.fft.fftfreq(_POWER_SIZE)
    square = line[:, None] ** 2 + line[None, :] ** 2

    def gain(width: float) -> NDArray[np.float64]:
        passed: NDArray[np.float64] = np.exp(-2.0 * (math.pi * width) ** 2 * square)
        return passed

    def share(passed: NDArray[np.float64]) -> float:
        return float(np.sqrt((power * passed**2).sum() / power.sum()))

    return share(gain(sigma)), share(1.0 - gain(EDGE_SIGMA_PIXELS))

"""A few slices of source and result, with the images that the guard's statistics are made of."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
        residual = source - result
        self.smooth = filters.gaussian(result, EDGE_SIGMA_PIXELS)
        self.removed = filters.gaussian(residual, EDGE_SIGMA_PIXELS)
        self.sigma = max(
            BLOB_FWHM_MM / math.sqrt(8.0 * math.log(2.0)) / pixel_mm, _MIN_BLOB_SIGMA_PIXELS
        )
        self.smooth_half, removed = filters.halved(self.smooth), filters.halved(self.removed)
        further = math.sqrt(self.sigma**2 - EDGE_SIGMA_PIXELS**2) / 2.0
        source_half = self.smooth_half + removed
        self.tissue, self.blob = filters.gaussian(torch.stack((source_half, removed)), further)
        self.change = filters.halved(residual).neg_()
        self.fine = filters.halved(residual.sub_(self.removed).square_())
        self.whole = _is_whole(source, void)
        self._near_void = None if void is None else filters.within_reach(void, NEAR_BOX_PIXELS // 2)

    def edges(self) -> tuple[Tensor, Tensor]:
        """Return gradient and curvature of the smoothed result [slice, row, column].

        Returns:
            The square of twice the gradient, 0 beside padding, and the Laplacian.
        """
        slope, laplacian = filters.gradient_and_laplacian(self.smooth)
        if self._near_void is not None:
            slope.mul_(self._near_void.logical_not().to(slope.dtype))
        return slope, laplacian

    def blob_ratio(self, noise: NoiseTexture) -> Tensor:
        """Return averaged residual over local noise [slice, half row, half column]; 0 in air."""
        kept, fine = averaged_noise_share(noise, self.sigma)
        usual = _usual_level(noise, kept)
        variance = filters.box_sums(self.fine, NOISE_BOX_PIXELS)
        level = variance.sqrt().mul_(kept / fine / NOISE_BOX_PIXELS)
        level.clamp_(usual, MAX_NOISE_RATIO * usual)
        low, high = filters.extremes(self.smooth_half, NEAR_BOX_PIXELS)
        excess = self.blob.abs().sub_(high - low, alpha=EDGE_SHARE)
        patient = filters.indicator(torch.gt, self.tissue, AIR_HU).mul_(self.whole)
        ratio: Tensor = excess.div_(level).clamp_(min=0.0).mul_(patient)
        return ratio

    def max_blob_ratio(self, noise: NoiseTexture) -> float:
        """Return an upper bound of ``blob_ratio``, for a tenth of its time."""
        kept, _ = averaged_noise_share(noise, self.sigma)
        return float(self.blob.abs().amax() / _usual_level(noise, kept))


def _usual_level(noise: NoiseTexture, kept: float) -> float:
    """Standard deviation of averaged noise in soft tissue, HU, at least ``MIN_LEVEL_HU``."""
    return max(noise.std_hu * kept, MIN_LEVEL_HU)


def _is_whole(source: Tensor, void: Tensor | None) -> Tensor:
    """Return 1 where next to no pixel nearby is clipped or void [slice, half row, half column]."""
    clipped = filters.indicator(torch.le, source, CLIPPED_HU)
    if void is not None:
        clipped = torch.maximum(clipped, void.to(source.dtype))
    share = filters.box_sums(filters.halved(clipped), NEAR_BOX_PIXELS)
    return filters.indicator(torch.lt, share, _CLIPPED_SHARE * NEAR_BOX_PIXELS**2)


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

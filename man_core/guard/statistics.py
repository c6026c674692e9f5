"""Statistics of the residual of a result, slice by slice: drift, edges and coherent residual.

The residual is source minus result. With a good denoiser it is pure noise: its mean over a tissue
is zero, it is independent of edges, and averaged over some millimetres it is as small as noise of
the same texture. All statistics are sums over slices, so that a series of any length needs the
memory of a few slices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from man_core import filters
from man_core.hu import CLIPPED_HU
from man_core.noise import NoiseTexture
from man_core.noise_texture import image_power
from man_core.quality.windows import TISSUES

MIN_SIDE_PIXELS = 32
"""Minimum side of a slice; smaller ones are not measured."""

EDGE_SIGMA_PIXELS = 1.0
"""Scale at which edges are detected. At smaller ones noise looks like edges."""

FAINT_EDGE_HU, STRONG_EDGE_HU = 20.0, 60.0
"""Minimum gradient of the smoothed result at faint and at strong edges, HU per pixel."""

MIN_EDGE_PIXELS = 500

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

MIN_TISSUE_PIXELS = 800
_SLICES_AT_ONCE = 2
_MIN_BLOB_SIGMA_PIXELS = 1.5  # pixels
_CLIPPED_SHARE = 0.02
_NOISE_BOX, _NEAR_BOX = 15, 5  # pixels of twice the size
_BLOCK = 16
_POWER_SIZE = 128


@dataclass(frozen=True)
class Drift:
    """Mean of result minus source in a tissue.

    Attributes:
        hu: HU.
        error_hu: Its standard error, from the spread between blocks of 32 x 32 pixels.
    """

    hu: float
    error_hu: float


@dataclass(frozen=True)
class Blob:
    """The largest coherent residual.

    Attributes:
        hu: Residual averaged with a Gaussian of ``BLOB_FWHM_MM``, HU; positive where the result is
            lower than its source.
        ratio: Its magnitude, less the part explained by an adjacent edge, over the standard
            deviation of noise of the same texture under the same average (at least
            ``MIN_LEVEL_HU``).
        slice_index: Index of its slice, from 0.
    """

    hu: float
    ratio: float
    slice_index: int


@dataclass(frozen=True)
class ResidualStatistics:
    """Measurements of one result against its source; None where too little could be measured.

    Attributes:
        drift: By tissue of ``man_core.quality.TISSUES``.
        faint_blur_px2: Variance of the Gaussian that would blur faint edges as much; negative if
            the result is sharper than its source.
        strong_blur_px2: The same for strong edges.
        blob: The largest coherent residual.
    """

    drift: dict[str, Drift | None]
    faint_blur_px2: float | None
    strong_blur_px2: float | None
    blob: Blob | None


def residual_statistics(
    source: NDArray[np.float32],
    result: NDArray[np.float32],
    pixel_mm: float,
    noise: NoiseTexture,
    padding: NDArray[np.bool_] | None = None,
) -> ResidualStatistics:
    """Measure a result against its source.

    Blur: of a Gaussian G of variance v, x - G x is about -v/2 times the Laplacian of x, so that the
    regression of the residual on the Laplacian at edges gives v.

    Args:
        source: HU [slice, row, column].
        result: HU, of the same shape, finite.
        pixel_mm: Side of a pixel.
        noise: Amplitude and texture of the noise in the source.
        padding: Mask of pixels without measurement, of the same shape; ignored together with
            adjacent pixels.
    """
    sums = _Sums()
    if min(source.shape[1:]) >= MIN_SIDE_PIXELS:
        for first in range(0, len(source), _SLICES_AT_ONCE):
            part = slice(first, first + _SLICES_AT_ONCE)
            void = None if padding is None else torch.from_numpy(padding[part])
            pair = _Pair(_tensor(source[part]), _tensor(result[part]), pixel_mm, void)
            sums.add(pair, noise, first)
    return sums.statistics()


def averaged_noise_share(noise: NoiseTexture, sigma: float) -> tuple[float, float]:
    """Compute the effect of averages on noise, as shares of its standard deviation.

    Args:
        noise: Noise, of which only the texture matters.
        sigma: Width of a Gaussian average, pixels.

    Returns:
        Share that this average leaves, and share that an average of ``EDGE_SIGMA_PIXELS`` removes.
    """
    return _averaged_noise_share(noise.cutoff, round(sigma, 3))


class _Pair:
    """Some slices of source and result, with derived images."""

    def __init__(
        self, source: Tensor, result: Tensor, pixel_mm: float, void: Tensor | None = None
    ) -> None:
        smooth, self.smooth = filters.gaussian(torch.stack((source, result)), EDGE_SIGMA_PIXELS)
        self.removed = smooth - self.smooth
        self.sigma = max(
            BLOB_FWHM_MM / math.sqrt(8.0 * math.log(2.0)) / pixel_mm, _MIN_BLOB_SIGMA_PIXELS
        )
        further = math.sqrt(self.sigma**2 - EDGE_SIGMA_PIXELS**2) / 2.0
        halves = torch.stack((filters.halved(smooth), filters.halved(self.removed)))
        self.tissue, self.blob = filters.gaussian(halves, further)
        residual = source - result
        self.change = -filters.halved(residual)
        fine = filters.halved((residual - self.removed) ** 2)
        self.fine = filters.box(fine, _NOISE_BOX).sqrt()
        clipped = (source <= CLIPPED_HU).to(source.dtype)
        self.measured: Tensor | None = None
        if void is not None and bool(void.any()):
            clipped = torch.maximum(clipped, void.to(source.dtype))
            self.measured = filters.box(void.to(source.dtype), _NEAR_BOX) == 0.0
        self.whole = filters.box(filters.halved(clipped), _NEAR_BOX) < _CLIPPED_SHARE

    def blob_ratio(self, noise: NoiseTexture) -> Tensor:
        """Return averaged residual over local noise [slice, half row, half column]; 0 in air."""
        kept, fine = averaged_noise_share(noise, self.sigma)
        usual = max(noise.std_hu * kept, MIN_LEVEL_HU)
        level = (self.fine * (kept / fine)).clamp(usual, MAX_NOISE_RATIO * usual)
        low, high = filters.extremes(filters.halved(self.smooth), _NEAR_BOX)
        excess = self.blob.abs() - EDGE_SHARE * (high - low)
        patient = self.whole & (self.tissue > AIR_HU)
        ratio: Tensor = (excess / level).clamp(min=0.0) * patient
        return ratio


class _Sums:
    """Sums over the slices seen so far."""

    def __init__(self) -> None:
        self._blocks: dict[str, list[Tensor]] = {name: [] for name in TISSUES}
        self._faint, self._strong = torch.zeros(3).double(), torch.zeros(3).double()
        self._blob: Blob | None = None

    def add(self, pair: _Pair, noise: NoiseTexture, first: int) -> None:
        curvature, slope = filters.laplacian(pair.smooth), filters.gradient(pair.smooth)
        if pair.measured is not None:
            slope = slope * pair.measured
        strong = slope >= STRONG_EDGE_HU
        self._strong += _edge_sums(pair.removed, curvature, strong)
        self._faint += _edge_sums(pair.removed, curvature, (slope >= FAINT_EDGE_HU) & ~strong)
        lowest, highest = filters.extremes(pair.tissue, _NEAR_BOX)
        for name, (low, high) in TISSUES.items():
            mask = (lowest >= low) & (highest <= high) & pair.whole
            both = (mask.float(), pair.change * mask)
            self._blocks[name].append(
                torch.stack([filters.block_sums(image, _BLOCK).double() for image in both])
            )
        self._keep_largest(pair, noise, first)

    def statistics(self) -> ResidualStatistics:
        return ResidualStatistics(
            {name: _drift(blocks) for name, blocks in self._blocks.items()},
            _blur(self._faint),
            _blur(self._strong),
            self._blob,
        )

    def _keep_largest(self, pair: _Pair, noise: NoiseTexture, first: int) -> None:
        if not noise.patches:
            return
        ratio = pair.blob_ratio(noise)
        place = int(ratio.argmax())
        largest = float(ratio.flatten()[place])
        if self._blob is None or largest > self._blob.ratio:
            index = first + place // ratio[0].numel()
            self._blob = Blob(float(pair.blob.flatten()[place]), largest, index)


def _tensor(hu: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.array(hu, dtype=np.float32))


def _edge_sums(removed: Tensor, curvature: Tensor, edge: Tensor) -> Tensor:
    """Sum over an edge: pixels, removed times curvature, curvature squared [3]."""
    a, b = removed[edge], curvature[edge]
    return torch.stack([edge.sum(), (a * b).double().sum(), (b * b).double().sum()])


def _blur(sums: Tensor) -> float | None:
    pixels, product, square = sums.tolist()
    return -2.0 * product / square if pixels >= MIN_EDGE_PIXELS else None


def _drift(blocks: list[Tensor]) -> Drift | None:
    """Compute the drift from pixel counts and sums of change [2, block] of each batch."""
    pixels, change = torch.cat(blocks, dim=1) if blocks else torch.zeros(2, 0).double()
    count = float(pixels.sum())
    if 4.0 * count < MIN_TISSUE_PIXELS:  # a pixel stands for 2 x 2
        return None
    mean = float(change.sum()) / count
    error = float(((change - mean * pixels) ** 2).sum().sqrt()) / count
    return Drift(mean, error)


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

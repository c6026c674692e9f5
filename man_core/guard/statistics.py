"""Statistics of the residual of a result, slice by slice: drift, edges and coherent residual.

The residual is source minus result. With a good denoiser it is pure noise: its mean over a tissue
is zero, it is independent of edges, and averaged over some millimetres it is as small as noise of
the same texture. All statistics are sums and maxima over slices, so that a series of any length
needs the memory of a few slices, and they are taken while the series is denoised.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from man_core import filters
from man_core.guard.pair import NEAR_BOX_PIXELS, SlicePair
from man_core.noise import NoiseTexture
from man_core.quality.windows import TISSUES

MIN_SIDE_PIXELS = 32
"""Minimum side of a slice; smaller ones are not measured."""

FAINT_EDGE_HU, STRONG_EDGE_HU = 20.0, 60.0
"""Minimum gradient of the smoothed result at faint and at strong edges, HU per pixel."""

MIN_EDGE_PIXELS = 500
MIN_TISSUE_PIXELS = 800

_SLICES_AT_ONCE = {"cpu": 1, "cuda": 16}
"""By type of device. One slice fits into the cache of a core; a GPU needs more to be busy."""

_OUT_OF_TISSUES_HU = 1e6
"""Takes a place out of all tissues."""

_BLOCK = 16
"""Side of a block, in pixels of twice the size."""


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


class ResidualSums:
    """Measurement of a result against its source, a few slices at a time.

    Blur: of a Gaussian G of variance v, x - G x is about -v/2 times the Laplacian of x, so that the
    regression of the residual on the Laplacian at edges gives v.

    Args:
        pixel_mm: Side of a pixel.
        noise: Amplitude and texture of the noise in the source.
        device: Device of the arithmetic.
    """

    def __init__(self, pixel_mm: float, noise: NoiseTexture, device: str = "cpu") -> None:
        self._pixel_mm, self._noise, self._device = pixel_mm, noise, torch.device(device)
        zeros = torch.zeros(len(TISSUES), 5, dtype=torch.float64, device=self._device)
        self._tissues, self._faint, self._strong = zeros, zeros[0, :3], zeros[0, :3]
        self._blob: Blob | None = None

    def add(
        self,
        first: int,
        source: NDArray[np.float32],
        result: NDArray[np.float32],
        padding: NDArray[np.bool_] | None = None,
    ) -> None:
        """Take slices.

        Args:
            first: Index of the first of them in the series.
            source: HU [slice, row, column].
            result: HU, of the same shape, finite.
            padding: Mask of pixels without measurement, of the same shape; ignored together with
                adjacent pixels.
        """
        if min(source.shape[1:]) < MIN_SIDE_PIXELS:
            return
        step = _SLICES_AT_ONCE.get(self._device.type, 1)
        for begin in range(0, len(source), step):
            part = slice(begin, begin + step)
            void = None if padding is None or not padding[part].any() else padding[part]
            pair = SlicePair(
                self._tensor(source[part]),
                self._tensor(result[part]),
                self._pixel_mm,
                None if void is None else self._tensor(void),
            )
            self._add_edges(pair)
            self._tissues = self._tissues + _tissue_sums(pair)
            self._keep_largest(pair, first + begin)

    def statistics(self) -> ResidualStatistics:
        """Return the measurements of the slices so far."""
        return ResidualStatistics(
            {
                name: _drift(*sums)
                for name, sums in zip(TISSUES, self._tissues.tolist(), strict=True)
            },
            _blur(self._faint),
            _blur(self._strong),
            self._blob,
        )

    def _tensor(self, image: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.require(image, requirements=("C", "W"))).to(self._device)

    def _add_edges(self, pair: SlicePair) -> None:
        slope, curvature = pair.edges()
        strong = filters.indicator(torch.ge, slope, (2.0 * STRONG_EDGE_HU) ** 2)
        faint = filters.indicator(torch.ge, slope, (2.0 * FAINT_EDGE_HU) ** 2).sub_(strong)
        product, square = pair.removed * curvature, curvature.square()
        self._strong = self._strong + _sums_within(strong, product, square)
        self._faint = self._faint + _sums_within(faint, product, square)

    def _keep_largest(self, pair: SlicePair, first: int) -> None:
        if not self._noise.patches:
            return
        if self._blob is not None and pair.max_blob_ratio(self._noise) <= self._blob.ratio:
            return
        ratio = pair.blob_ratio(self._noise)
        largest = float(ratio.amax())
        if self._blob is None or largest > self._blob.ratio:
            place = int(ratio.argmax())
            index = first + place // ratio[0].numel()
            self._blob = Blob(float(pair.blob.flatten()[place]), largest, index)


def _sums_within(mask: Tensor, *images: Tensor) -> Tensor:
    """Sum a mask [slice, row, column], 0 or 1, and images where it is 1.

    Returns:
        float64 [sum]. Each slice is summed by itself, so that its company changes nothing.
    """
    masks = mask.flatten(1)
    products = [
        torch.stack([torch.dot(one, inside) for one, inside in zip(image, masks, strict=True)])
        for image in (masks, *(image.flatten(1) for image in images))
    ]
    return torch.stack(products).double().sum(dim=1)


def _tissue_sums(pair: SlicePair) -> Tensor:
    """Sum over blocks of 32 x 32 pixels, by tissue.

    Returns:
        [tissue, sum] of pixels p (of twice the size) and changes c of a block: p, c, c^2, c p, p^2.
    """
    lows, highs = torch.tensor(tuple(TISSUES.values()), device=pair.tissue.device).T
    lowest, highest = filters.extremes(pair.tissue, NEAR_BOX_PIXELS)
    lowest = lowest.add(1.0 - pair.whole, alpha=-_OUT_OF_TISSUES_HU)
    inside = _each(torch.ge, lowest, lows).mul_(_each(torch.le, highest, highs))
    pixels = filters.block_sums(inside, _BLOCK).flatten(1).double()
    change = filters.block_sums(inside.mul_(pair.change), _BLOCK).flatten(1).double()
    terms = (pixels, change, change * change, change * pixels, pixels * pixels)
    return torch.stack([term.sum(dim=1) for term in terms], dim=1)


def _each(compare: Callable[..., Tensor], image: Tensor, limits: Tensor) -> Tensor:
    """Compare an image with each of several limits; return 1 or 0 [limit, slice, row, column]."""
    images = image.contiguous().expand(len(limits), *image.shape)
    return filters.indicator(compare, images, limits[:, None, None, None])


def _blur(sums: Tensor) -> float | None:
    pixels, product, square = sums.tolist()
    return -2.0 * product / square if pixels >= MIN_EDGE_PIXELS else None


def _drift(
    count: float, change: float, changes: float, mixed: float, pixels: float
) -> Drift | None:
    """Compute the drift from the sums of ``_tissue_sums``; its error is that of a ratio."""
    if 4.0 * count < MIN_TISSUE_PIXELS:  # a pixel stands for 2 x 2
        return None
    mean = change / count
    spread = changes - 2.0 * mean * mixed + mean**2 * pixels
    return Drift(mean, math.sqrt(max(spread, 0.0)) / count)

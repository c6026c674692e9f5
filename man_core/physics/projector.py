"""Parallel-beam projection and filtered back-projection of CT slices.

Geometry: the rotation axis passes through the centre of the image; view v looks along angle
pi * v / views; a ray has the signed distance t = x cos + y sin from the axis, x along columns and
y along rows. Detector bins are given in image pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from man_core.noise_texture import DETECTOR_BIN_PIXELS

WATER_PER_MM = 0.0192
"""Attenuation of water per millimetre at the mean energy of a 120 kV beam (NEED, 2025)."""

MAX_ELEMENTS_AT_ONCE = 1 << 26
"""Elements of a GPU's working arrays, 256 MiB in float32: few large kernels instead of many small
ones, each of which costs the host more time than the GPU."""

_UPSAMPLING = 4
_PROJECTED_AT_ONCE = 8
_BACK_PROJECTED_AT_ONCE = 1
_FFT_BLOCK = 256


def attenuation(hu: Tensor) -> Tensor:
    """Convert HU to linear attenuation per millimetre, never negative; same shape."""
    return (WATER_PER_MM * (1.0 + hu / 1000.0)).clamp(min=0.0)


def bins_across(rows: int, columns: int, bin_pixels: float) -> int:
    """Return the odd number of bins that cover the diagonal, so that one bin is on the axis."""
    half = math.ceil(0.5 * math.hypot(rows, columns) / bin_pixels)
    return 2 * half + 1


def project(
    mu: Tensor,
    pixel_mm: float,
    *,
    views: int = 720,
    bin_pixels: float = DETECTOR_BIN_PIXELS,
    views_at_once: int | None = None,
) -> Tensor:
    """Compute line integrals of attenuation.

    Args:
        mu: Attenuation per millimetre [slice, row, column].
        pixel_mm: Side of a pixel.
        views: Directions over half a turn.
        bin_pixels: Distance of detector bins in pixels.
        views_at_once: Views in one pass; None: as suits the device.

    Returns:
        Dimensionless line integrals [slice, view, bin].
    """
    slices, rows, columns = mu.shape
    bins = bins_across(rows, columns, bin_pixels)
    steps = bins_across(rows, columns, 1.0)
    t = (torch.arange(bins, device=mu.device) - bins // 2) * bin_pixels
    s = torch.arange(steps, device=mu.device) - steps // 2 + 0.0
    sinogram = mu.new_empty(slices, views, bins)
    pixels = (slices + 2) * steps * bins  # of a view, with the two coordinates of each
    at_once = views_at_once or _that_suit(mu.device, _PROJECTED_AT_ONCE, pixels)
    for first in range(0, views, at_once):
        chosen = torch.arange(first, min(first + at_once, views), device=mu.device)
        angle = (chosen * (math.pi / views))[:, None, None]
        x = t[None, None, :] * angle.cos() - s[None, :, None] * angle.sin()
        y = t[None, None, :] * angle.sin() + s[None, :, None] * angle.cos()
        grid = torch.stack((x * (2.0 / columns), y * (2.0 / rows)), dim=-1).to(mu.dtype)
        grid = grid.flatten(0, 1)[None]
        sampled = functional.grid_sample(mu[None], grid, align_corners=False)[0]
        done = slice(first, first + len(chosen))
        sinogram[:, done] = sampled.view(slices, len(chosen), steps, bins).sum(2)
    return sinogram * pixel_mm


def _that_suit(device: torch.device, on_cpu: int, elements: int) -> int:
    """Return the views of one pass; on a GPU as many as ``MAX_ELEMENTS_AT_ONCE`` allows."""
    return on_cpu if device.type == "cpu" else max(1, MAX_ELEMENTS_AT_ONCE // elements)


def ramp_response(bins: int, bin_mm: float, cutoff: float | None, nyquist: float) -> Tensor:
    """Compute the response of the band-limited ramp (Kak and Slaney, eq. 3.61), Hann-apodised.

    Args:
        bins: Length of the padded projection.
        bin_mm: Distance of bins.
        cutoff: End of the Hann window, relative to ``nyquist``; None: the plain ramp.
        nyquist: Nyquist frequency of the image in cycles per bin.

    Returns:
        float32 [frequency] for ``torch.fft.rfft``, per millimetre.
    """
    n = torch.arange(bins, dtype=torch.float64)
    n = torch.minimum(n, bins - n)
    kernel = torch.where(n % 2 == 1, -1.0 / (math.pi * n.clamp(min=1.0)) ** 2, torch.zeros(1))
    kernel[0] = 0.25
    response = torch.fft.rfft(kernel).real / bin_mm
    if cutoff is not None:
        f = torch.fft.rfftfreq(bins, dtype=torch.float64)
        fraction = (f / (cutoff * nyquist)).clamp(max=1.0)
        response = response * 0.5 * (1.0 + torch.cos(math.pi * fraction))
    ramp: Tensor = response.to(torch.float32)
    return ramp


def filtered_back_projection(
    sinogram: Tensor,
    pixel_mm: float,
    rows: int,
    columns: int,
    *,
    bin_pixels: float = DETECTOR_BIN_PIXELS,
    cutoff: float | None = None,
    views_at_once: int | None = None,
) -> Tensor:
    """Reconstruct an image from line integrals; linear in the sinogram.

    Args:
        sinogram: Line integrals [slice, view, bin], views over half a turn.
        pixel_mm: Side of a pixel of the image.
        rows: Rows of the image.
        columns: Columns of the image.
        bin_pixels: Distance of detector bins in pixels.
        cutoff: End of the Hann apodisation, relative to the Nyquist frequency of the image; None:
            the plain ramp up to the limit of the detector.
        views_at_once: Views in one pass; None: as suits the device. The sums of several views
            differ in their rounding.

    Returns:
        Attenuation per millimetre [slice, row, column].
    """
    bins = sinogram.shape[-1]
    padded = _FFT_BLOCK * math.ceil(2 * bins / _FFT_BLOCK)
    response = ramp_response(padded, bin_pixels * pixel_mm, cutoff, 0.5 * bin_pixels)
    spectrum = torch.fft.rfft(sinogram, n=padded) * response.to(sinogram)
    filtered = torch.fft.irfft(spectrum, n=padded * _UPSAMPLING)
    filtered = filtered[..., : bins * _UPSAMPLING] * _UPSAMPLING
    pixels = (len(filtered) + 2) * rows * columns  # of a view, with the index of each (int64)
    at_once = views_at_once or _that_suit(filtered.device, _BACK_PROJECTED_AT_ONCE, pixels)
    index = _BinIndex(rows, columns, filtered.shape[1], bins // 2, bin_pixels, filtered.device)
    passes = range(0, filtered.shape[1], at_once)
    image = filtered.new_zeros(len(filtered), rows * columns)
    for first in passes:
        views = slice(first, first + at_once)
        _add_views(image, filtered[:, views], index.of(views).clamp_(0, filtered.shape[2] - 1))
    averaged: Tensor = image.view(-1, rows, columns) * (math.pi / filtered.shape[1])
    return averaged


class _BinIndex:
    """Upsampled bin that each pixel projects to; they are so fine that the nearest suffices."""

    def __init__(
        self,
        rows: int,
        columns: int,
        views: int,
        axis_bin: int,
        bin_pixels: float,
        device: torch.device,
    ) -> None:
        scale = _UPSAMPLING / bin_pixels
        x = (torch.arange(columns) - 0.5 * (columns - 1)) * scale
        y = (torch.arange(rows) - 0.5 * (rows - 1)) * scale
        angles = [math.pi * view / views for view in range(views)]
        cos, sin = (torch.tensor([f(a) for a in angles])[:, None] for f in (math.cos, math.sin))
        self._across = (x * cos + (axis_bin * _UPSAMPLING + 0.5)).to(device)
        self._down = (y * sin).to(device)

    def of(self, views: slice) -> Tensor:
        """Return the bins of all pixels in some views, int32 [view, row * column]."""
        sums = self._across[views, None, :] + self._down[views, :, None]
        return sums.to(torch.int32).flatten(1)


def _add_views(image: Tensor, filtered: Tensor, index: Tensor) -> None:
    """Add views [slice, view, bin] to images [slice, pixel], for bins [view, pixel]."""
    if len(index) == 1:
        for row in range(len(image)):
            image[row] += filtered[row, 0].index_select(0, index[0])
        return
    bins = index.long().expand(len(image), -1, -1)
    image += filtered.gather(2, bins).sum(1)

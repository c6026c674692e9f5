"""Noise power spectrum: the texture of noise, not only its amplitude.

ICRU report 54 and AAPM TG-233, section 3.2: the mean periodogram of regions of interest after
subtraction of a quadratic surface, averaged over rings of frequency. A denoiser that leaves only
the slow part of the noise moves the peak down, which readers call plastic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from man_core.noise import PATCH_PIXELS, radial_noise_power
from man_core.noise_texture import trend_basis

Hu = NDArray[np.floating]

REGION_PIXELS = 32
"""Side of a region of interest in a difference image, which contains no anatomy."""

MAX_REGIONS = 4000
"""Maximum number of regions; more do not improve the estimate and are subsampled evenly."""

PEAK_SHARE = 0.8
"""Share of the maximum above which rings determine the peak by a parabola: finer than a ring, and
more stable than the highest ring of a flat spectrum."""


@dataclass(frozen=True, eq=False)
class NoisePower:
    """Radial noise power spectrum.

    Attributes:
        frequency: Ascending frequencies [ring], cycles/mm.
        power: Power [ring], HU^2 mm^2.
    """

    frequency: NDArray[np.float64]
    power: NDArray[np.float64]

    @property
    def peak(self) -> float:
        """Frequency of the highest power, cycles/mm; NaN without noise."""
        if not self.power.any():
            return math.nan
        low, high = self._around_peak()
        highest, step = self.frequency[int(np.argmax(self.power))], self.frequency[0]
        rings = (self.frequency[low:high] - highest) / step
        curve, slope, _ = np.polyfit(rings, self.power[low:high] / self.power.max(), 2)
        away = np.clip(-0.5 * slope / curve, rings[0], rings[-1]) if curve < 0.0 else 0.0
        return float(highest + step * away)

    @property
    def mean(self) -> float:
        """Mean frequency weighted by radial power, cycles/mm; NaN without noise."""
        total = self.power.sum()
        return float((self.frequency * self.power).sum() / total) if total > 0 else math.nan

    def _around_peak(self) -> tuple[int, int]:
        """Return first ring and end of the rings that determine the peak: at least three."""
        low = high = top = int(np.argmax(self.power))
        enough = PEAK_SHARE * self.power[top]
        while low > 0 and self.power[low - 1] >= enough:
            low -= 1
        while high < len(self.power) - 1 and self.power[high + 1] >= enough:
            high += 1
        if high - low < 2:
            low = min(max(top - 1, 0), len(self.power) - 3)
            high = low + 2
        return low, high + 1


def tissue_noise_power(hu: Hu, pixel_mm: float, like: Hu | None = None) -> NoisePower:
    """Noise power spectrum of a patient image, in patches of soft tissue between vessels.

    Such patches still contain some anatomy, mostly at the lowest frequencies. The full dose of the
    same slices contains the same: compare with it, and let it select the patches.

    Args:
        hu: Image [slice, row, column] or [row, column], HU.
        pixel_mm: Side of a pixel.
        like: Image of the same anatomy that selects the patches; None: the image itself.

    Returns:
        Eight rings up to the Nyquist frequency; all zero without soft tissue.
    """
    frequency, power = radial_noise_power(hu, like)
    return NoisePower(frequency / pixel_mm, power * (PATCH_PIXELS * pixel_mm) ** 2)


def difference_noise_power(
    difference: Hu, pixel_mm: float, within: NDArray[np.bool_], region_pixels: int = REGION_PIXELS
) -> NoisePower:
    """Noise power spectrum of a difference: image minus truth, or of two images.

    Args:
        difference: Difference image [slice, row, column], HU.
        pixel_mm: Side of a pixel.
        within: Mask [slice, row, column] in which regions lie entirely.
        region_pixels: Side of a region of interest.

    Returns:
        Rings up to the Nyquist frequency; all zero where no region fits.
    """
    rings = np.arange(1, region_pixels // 2 + 1)
    frequency = rings / (region_pixels * pixel_mm)
    regions = _regions(difference, within, region_pixels)
    if len(regions) == 0:
        return NoisePower(frequency, np.zeros(len(rings)))
    power = noise_power(regions, pixel_mm)
    line = np.fft.fftfreq(region_pixels) * region_pixels
    ring = np.rint(np.hypot(line[:, None], line[None, :]))
    return NoisePower(frequency, np.array([power[ring == k].mean() for k in rings]))


def noise_power(regions: Hu, pixel_mm: float) -> NDArray[np.float64]:
    """Two-dimensional noise power spectrum of square regions of interest.

    Its sum over the frequencies, times the square of the frequency step 1 / (side * pixel), is the
    variance after subtraction of the quadratic surface (Parseval).

    Args:
        regions: Regions [region, row, column], HU.
        pixel_mm: Side of a pixel.

    Returns:
        Power [row frequency, column frequency], HU^2 mm^2, in the order of numpy's FFT.
    """
    side = regions.shape[-1]
    basis = trend_basis(side)
    flat = regions.reshape(len(regions), side * side).astype(np.float64)
    left = (flat - (flat @ basis) @ basis.T).reshape(regions.shape)
    periodograms = np.abs(np.fft.fft2(left)) ** 2
    power: NDArray[np.float64] = periodograms.mean(axis=0) * (pixel_mm / side) ** 2
    return power


def _regions(difference: Hu, within: NDArray[np.bool_], side: int) -> Hu:
    """Return regions [region, row, column] within a mask that overlap by half."""
    if min(difference.shape[1:]) < side:
        return np.zeros((0, side, side))
    step = (slice(None), slice(None, None, side // 2), slice(None, None, side // 2))
    inside = sliding_window_view(within, (side, side), axis=(1, 2))[step].all(axis=(3, 4))
    places = np.argwhere(inside)
    if len(places) > MAX_REGIONS:
        places = places[np.linspace(0, len(places) - 1, MAX_REGIONS).round().astype(int)]
    every = sliding_window_view(difference, (side, side), axis=(1, 2))[step]
    return np.asarray(every[tuple(places.T)])

"""Estimation of amplitude and texture of the noise in a CT image, from the image alone.

Everything is measured in small patches that lie entirely in soft tissue. A quadratic surface is
subtracted from each patch and only frequencies of at least two cycles per patch count, which
excludes slow anatomy. The share of correlated noise that this removes too is restored: the
estimated texture tells which share of the variance lies in the band. Patches with edges or vessels
stand out by their power, so the estimates use the median patch or the calmer half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from man_core.box_sums import block_sums, sliding_sums
from man_core.noise_texture import (
    autocorrelation,
    band_power,
    match_cutoff,
    model_spectrum,
    parts_in_cache,
    periodograms,
    ring_profile,
    trend_basis,
)

SOFT_TISSUE_HU = (-50.0, 150.0)
"""HU of muscle, organs and contrast-enhanced blood; no fat, no bone."""

PATCH_PIXELS = 16
"""Side of a patch: about a centimetre, small enough to lie between vessels."""

STRIDE_PIXELS = 4
_SMOOTHING_PIXELS = 7
MIN_TISSUE_SHARE = 0.97
_CALM_QUANTILES = (0.05, 0.55)
MIN_PATCHES = 12

MAX_PATCHES = 8192
"""More patches than this are subsampled evenly: those of a whole series would fill the memory."""

MAX_SLICES = 32
"""Maximum number of slices of a series that are measured, evenly spaced."""


@dataclass(frozen=True)
class NoiseTexture:
    """Amplitude and texture of the noise of a series.

    Attributes:
        std_hu: Standard deviation in soft tissue, HU.
        cutoff: End of the Hann apodisation, relative to Nyquist, that gives this texture.
        autocorrelation: At lags 1, 2, 3 pixels along (rows, columns).
        patches: Number of patches measured; 0 if the image shows no soft tissue.
    """

    std_hu: float
    cutoff: float
    autocorrelation: tuple[tuple[float, float, float], tuple[float, float, float]]
    patches: int


def noise_hu(hu: NDArray[Any]) -> float:
    """Estimate the standard deviation of the noise in soft tissue.

    Args:
        hu: Volume [slice, row, column] or one slice [row, column] in HU.

    Returns:
        HU; 0.0 without soft tissue.
    """
    return estimate_noise_and_texture(hu).std_hu


def noise_hu_per_slice(hu: NDArray[Any]) -> NDArray[np.float64]:
    """Estimate the noise of each slice [slice] in HU, with the texture of the whole volume.

    A slice without enough soft tissue gets the noise of the whole volume.
    """
    volume = _as_volume(hu)
    whole = estimate_noise_and_texture(volume)
    figures = np.full(len(volume), whole.std_hu)
    for index in range(len(volume)):
        residual = tissue_residuals(volume[index : index + 1])
        if len(residual) >= MIN_PATCHES:
            figures[index] = _typical_std(periodograms(residual), whole.cutoff)
    return figures


def estimate_noise_and_texture(hu: NDArray[Any]) -> NoiseTexture:
    """Estimate amplitude, cutoff and autocorrelation of the noise of a series.

    Args:
        hu: Volume [slice, row, column] or one slice [row, column] in HU.

    Returns:
        The estimate. The cutoff is relative to the Nyquist frequency of the image and thus
        independent of the pixel size.
    """
    volume = _as_volume(hu)
    sample = NoiseSample(len(volume))
    sample.add(0, volume)
    return sample.estimate()


class NoiseSample:
    """Noise of a series that arrives in parts; equal to ``estimate_noise_and_texture`` of it all.

    At most ``MAX_SLICES`` slices are kept, whatever the length of the series.

    Args:
        slices: Number of slices of the series.
    """

    def __init__(self, slices: int) -> None:
        self._wanted, self._patches = frozenset(sampled_slices(slices)), _Patches()

    def add(self, first: int, hu: NDArray[Any]) -> None:
        """Take slices [slice, row, column], in the order of the series.

        Args:
            first: Index of the first of them in the series.
            hu: HU.
        """
        for index, one in enumerate(hu, start=first):
            if index in self._wanted:
                self._patches.add(one, one)

    def estimate(self) -> NoiseTexture:
        """Return the estimate from the slices so far."""
        residual = self._patches.residuals()
        if len(residual) == 0:
            return NoiseTexture(0.0, 1.0, ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)), 0)
        power, calm = periodograms(residual), _are_calm(residual)
        cutoff = match_cutoff(ring_profile(power[calm].mean(axis=0)))
        std = _typical_std(power, cutoff)
        return NoiseTexture(std, cutoff, autocorrelation(residual[calm]), len(residual))


def sampled_slices(slices: int) -> tuple[int, ...]:
    """Return the indices of the slices by which a series of so many is measured, evenly spaced."""
    return tuple(int(index) for index in _thinned(np.arange(slices), MAX_SLICES))


def radial_noise_power(
    hu: NDArray[Any], like: NDArray[Any] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimate the radial noise power spectrum in soft tissue.

    Args:
        hu: Volume [slice, row, column] or one slice [row, column] in HU.
        like: Image of the same anatomy that selects the patches, so that two images can be
            compared. None: the image itself.

    Returns:
        Frequencies [ring] in cycles per pixel and power [ring] in HU^2: the contribution to the
        variance of each of the 16 x 16 frequencies of a patch, averaged over the ring. All zero
        without soft tissue.
    """
    chooser = _sample(_as_volume(hu if like is None else like))
    chosen = tissue_residuals(chooser)
    rings = np.arange(1, PATCH_PIXELS // 2 + 1)
    if len(chosen) == 0:
        return rings / PATCH_PIXELS, np.zeros(len(rings))
    residual = _residuals_at(_sample(_as_volume(hu)), chooser)
    power = periodograms(residual[_are_calm(chosen)]).mean(axis=0)
    return rings / PATCH_PIXELS, ring_profile(power)


def soft_tissue(hu: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the mask of soft tissue [slice, row, column], decided on locally averaged HU."""
    return np.stack([_soft_tissue(one) for one in _as_volume(hu)])


def tissue_residuals(hu: NDArray[Any]) -> NDArray[np.float64]:
    """Return detrended patches [patch, row, column] that lie in soft tissue.

    Args:
        hu: Volume [slice, row, column] in HU.

    Returns:
        At most ``MAX_PATCHES`` patches; none, for example, of air or of an image smaller than a
        patch.
    """
    return _residuals_at(hu, hu)


def _residuals_at(hu: NDArray[Any], like: NDArray[Any]) -> NDArray[np.float64]:
    """Return detrended patches of an image where another one shows soft tissue."""
    patches = _Patches()
    for one, other in zip(hu, like, strict=True):
        patches.add(one, other)
    return patches.residuals()


class _Patches:
    """Slices with the places of their patches in soft tissue."""

    def __init__(self) -> None:
        self._slices: list[NDArray[Any]] = []
        self._places: list[NDArray[np.int_]] = []

    def add(self, hu: NDArray[Any], like: NDArray[Any]) -> None:
        """Take a slice [row, column]; patches are chosen where ``like`` shows soft tissue."""
        if min(hu.shape) < PATCH_PIXELS:
            return
        chosen = np.flatnonzero(_lies_in_tissue(like))
        if len(chosen):
            self._slices.append(hu.copy())  # not a view, which would keep its whole batch
            self._places.append(chosen)

    def residuals(self) -> NDArray[np.float64]:
        """Return detrended patches [patch, row, column], at most ``MAX_PATCHES``."""
        ends = np.cumsum([len(places) for places in self._places], dtype=np.int_)
        kept = _thinned(np.arange(ends[-1] if len(ends) else 0), MAX_PATCHES)
        found = [np.zeros((0, PATCH_PIXELS, PATCH_PIXELS))]
        for hu, places, end in zip(self._slices, self._places, ends, strict=True):
            inside = kept[(kept >= end - len(places)) & (kept < end)] - (end - len(places))
            windows = _windows(hu)
            patches = windows[np.unravel_index(places[inside], windows.shape[:2])]
            found.append(_detrend(patches))
        return np.concatenate(found)


def _sample(hu: NDArray[Any]) -> NDArray[Any]:
    return hu[list(sampled_slices(len(hu)))]


def _thinned(values: NDArray[np.int_], most: int) -> NDArray[np.int_]:
    """Return at most so many of the values, evenly spaced."""
    if len(values) <= most:
        return values
    thinned: NDArray[np.int_] = values[np.linspace(0, len(values) - 1, most).round().astype(int)]
    return thinned


def _soft_tissue(hu: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the mask of soft tissue [row, column] of a slice; sums of whole HU are exact."""
    total = np.pad(hu.astype(np.float32), _SMOOTHING_PIXELS // 2, mode="edge")
    for axis in (0, 1):
        total = sliding_sums(total, _SMOOTHING_PIXELS, axis)
    low, high = SOFT_TISSUE_HU
    return (total > low * _SMOOTHING_PIXELS**2) & (total < high * _SMOOTHING_PIXELS**2)


def _lies_in_tissue(hu: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether each patch [patch row, patch column] of a slice lies in soft tissue."""
    counts = _soft_tissue(hu).astype(np.uint16)
    for axis in (0, 1):
        counts = sliding_sums(
            block_sums(counts, STRIDE_PIXELS, axis), PATCH_PIXELS // STRIDE_PIXELS, axis
        )
    return counts >= MIN_TISSUE_SHARE * PATCH_PIXELS**2


def _as_volume(hu: NDArray[Any]) -> NDArray[Any]:
    return hu if hu.ndim == 3 else hu[None]


def _windows(hu: NDArray[Any]) -> NDArray[Any]:
    """Return all patches of a slice as a view [patch row, patch column, row, column]."""
    return sliding_window_view(hu, (PATCH_PIXELS, PATCH_PIXELS))[::STRIDE_PIXELS, ::STRIDE_PIXELS]


def _detrend(patches: NDArray[Any]) -> NDArray[np.float64]:
    basis = trend_basis(PATCH_PIXELS)
    flat = patches.reshape(len(patches), PATCH_PIXELS**2).astype(np.float64)
    for part in parts_in_cache(len(flat)):
        flat[part] -= (flat[part] @ basis) @ basis.T
    return flat.reshape(patches.shape)


def _are_calm(residual: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Select the lower half by variance, without the very lowest; of two patches the calmer."""
    std = np.sqrt(np.mean(residual**2, axis=(1, 2)))
    low, high = np.quantile(std, _CALM_QUANTILES)
    calm = np.asarray((std >= low) & (std <= high))
    return calm if calm.any() else std == std.min()


def _typical_std(power: NDArray[np.float64], cutoff: float) -> float:
    """Return the median over the spectra of patches, which tolerates anatomy in half of them."""
    expected = band_power(model_spectrum(cutoff, PATCH_PIXELS))
    return float(np.sqrt(np.median(band_power(power)) / expected))

"""Estimation of amplitude and texture of the noise in a CT image, from the image alone.

Everything is measured in small patches that lie entirely in soft tissue. A quadratic surface is
subtracted from each patch and only frequencies of at least two cycles per patch count, which
excludes slow anatomy. The share of correlated noise that this removes too is restored: the
estimated texture tells which share of the variance lies in the band. Patches with edges or vessels
stand out by their power, so the estimates use the median patch or the calmer half.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from man_core.noise_texture import (
    autocorrelation,
    candidate_cutoffs,
    lag_correlation,
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
_MIN_RING = 2

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
            figures[index] = _typical_std(residual, whole.cutoff)
    return figures


def estimate_noise_and_texture(hu: NDArray[Any]) -> NoiseTexture:
    """Estimate amplitude, cutoff and autocorrelation of the noise of a series.

    Args:
        hu: Volume [slice, row, column] or one slice [row, column] in HU.

    Returns:
        The estimate. The cutoff is relative to the Nyquist frequency of the image and thus
        independent of the pixel size.
    """
    residual = tissue_residuals(_sample(_as_volume(hu)))
    if len(residual) == 0:
        return NoiseTexture(0.0, 1.0, ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)), 0)
    calm = _calm_patches(residual)
    cutoff = _match_cutoff(_ring_profile(_mean_power(calm)))
    std = _typical_std(residual, cutoff)
    return NoiseTexture(std, cutoff, autocorrelation(calm), len(residual))


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
    return rings / PATCH_PIXELS, _ring_profile(_mean_power(residual[_are_calm(chosen)]))


def soft_tissue(hu: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the mask of soft tissue [slice, row, column], decided on locally averaged HU."""
    mean = _box_mean(_as_volume(hu), _SMOOTHING_PIXELS)
    low, high = SOFT_TISSUE_HU
    return (mean > low) & (mean < high)


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
    if min(hu.shape[1:]) < PATCH_PIXELS:
        return np.zeros((0, PATCH_PIXELS, PATCH_PIXELS))
    chosen = np.flatnonzero(np.concatenate([_lies_in_tissue(one[None]) for one in like]))
    kept = np.unravel_index(_thinned(chosen, MAX_PATCHES), _windows(hu).shape[:3])
    return _detrend(_windows(hu)[kept].astype(np.float64))


def _sample(hu: NDArray[Any]) -> NDArray[Any]:
    return hu[_thinned(np.arange(len(hu)), MAX_SLICES)]


def _thinned(values: NDArray[np.int_], most: int) -> NDArray[np.int_]:
    """Return at most so many of the values, evenly spaced."""
    if len(values) <= most:
        return values
    thinned: NDArray[np.int_] = values[np.linspace(0, len(values) - 1, most).round().astype(int)]
    return thinned


def _lies_in_tissue(hu: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether each patch [slice, patch row, patch column] lies in soft tissue."""
    share = _box_mean(soft_tissue(hu).astype(np.float64), PATCH_PIXELS, valid=True)
    return share[:, ::STRIDE_PIXELS, ::STRIDE_PIXELS] >= MIN_TISSUE_SHARE


def _as_volume(hu: NDArray[Any]) -> NDArray[Any]:
    return hu if hu.ndim == 3 else hu[None]


def _windows(hu: NDArray[Any]) -> NDArray[Any]:
    """Return all patches as a view [slice, patch row, patch column, row, column]."""
    return sliding_window_view(hu, (PATCH_PIXELS, PATCH_PIXELS), axis=(1, 2))[
        :, ::STRIDE_PIXELS, ::STRIDE_PIXELS
    ]


def _detrend(patches: NDArray[np.float64]) -> NDArray[np.float64]:
    basis = trend_basis(PATCH_PIXELS)
    flat = patches.reshape(len(patches), PATCH_PIXELS * PATCH_PIXELS)
    return (flat - (flat @ basis) @ basis.T).reshape(patches.shape)


def _box_mean(hu: NDArray[Any], size: int, *, valid: bool = False) -> NDArray[np.float64]:
    """Mean over a box of ``size`` pixels; same shape, or only whole boxes if ``valid``."""
    before, after = (0, 0) if valid else (size // 2, size - 1 - size // 2)
    padded = np.pad(hu.astype(np.float64), [(0, 0), (before, after), (before, after)], mode="edge")
    total = np.pad(padded.cumsum(1).cumsum(2), [(0, 0), (1, 0), (1, 0)])
    rows = total[:, size:] - total[:, :-size]
    mean: NDArray[np.float64] = (rows[:, :, size:] - rows[:, :, :-size]) / size**2
    return mean


def _patch_std(residual: NDArray[np.float64]) -> NDArray[np.float64]:
    std: NDArray[np.float64] = np.sqrt(np.mean(residual**2, axis=(1, 2)))
    return std


def _calm_patches(residual: NDArray[np.float64]) -> NDArray[np.float64]:
    calm: NDArray[np.float64] = residual[_are_calm(residual)]
    return calm


def _are_calm(residual: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Select the lower half by variance, without the very lowest; of two patches the calmer."""
    std = _patch_std(residual)
    low, high = np.quantile(std, _CALM_QUANTILES)
    calm = np.asarray((std >= low) & (std <= high))
    return calm if calm.any() else std == std.min()


def _typical_std(residual: NDArray[np.float64], cutoff: float) -> float:
    """Return the median over patches, which tolerates anatomy in up to half of them."""
    band = _ring_numbers() >= _MIN_RING
    power = _periodograms(residual)[:, band].sum(axis=1)
    return float(np.sqrt(np.median(power) / _model_spectrum(cutoff)[band].sum()))


def _mean_power(residual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean spectrum [row frequency, column frequency] of patches."""
    power: NDArray[np.float64] = _periodograms(residual).mean(axis=0)
    return power


def _periodograms(residual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spectra [patch, row frequency, column frequency] of Hann-windowed patches; sum: variance."""
    window = np.outer(_hann(), _hann())
    unit = float(np.sum(window**2)) * PATCH_PIXELS**2
    return np.asarray(np.abs(np.fft.fft2(residual * window)) ** 2 / unit, dtype=np.float64)


def _hann() -> NDArray[np.float64]:
    return np.hanning(PATCH_PIXELS + 2)[1:-1]


@lru_cache(maxsize=1)
def _ring_numbers() -> NDArray[np.float64]:
    """Cycles per patch [row frequency, column frequency], rounded."""
    f = np.fft.fftfreq(PATCH_PIXELS) * PATCH_PIXELS
    return np.asarray(np.rint(np.hypot(f[:, None], f[None, :])), dtype=np.float64)


def _ring_profile(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average the spectrum of a patch over rings of 1 .. PATCH_PIXELS / 2 cycles per patch."""
    ring = _ring_numbers()
    return np.array([power[ring == k].mean() for k in range(1, PATCH_PIXELS // 2 + 1)])


def _match_cutoff(profile: NDArray[np.float64]) -> float:
    """Find the cutoff that explains a profile [ring] best.

    The profile is modelled as noise of a cutoff plus anatomy whose power falls with the cube of the
    frequency (Burgess 1999); both amounts are fitted for every candidate. Errors are weighted by
    the root of the power, so that the weak upper rings count.
    """
    ring = np.arange(_MIN_RING, len(profile) + 1)
    seen = np.maximum(profile[_MIN_RING - 1 :], 1e-9)
    weight = np.sqrt(ring / seen)

    def misfit(cutoff: float) -> float:
        noise = _ring_profile(_model_spectrum(cutoff))[_MIN_RING - 1 :]
        parts = np.stack([noise, ring**-3.0], axis=1) * weight[:, None]
        amounts = _least_squares(parts, seen * weight)
        return float(np.sum((seen * weight - parts @ amounts) ** 2))

    return min(candidate_cutoffs(), key=misfit)


def _least_squares(parts: NDArray[np.float64], seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fit non-negative amounts of two components [ring, 2]."""
    amounts = np.asarray(np.linalg.lstsq(parts, seen, rcond=None)[0], dtype=np.float64)
    if amounts.min() >= 0.0:
        return amounts
    alone = np.maximum((parts * seen[:, None]).sum(0) / (parts**2).sum(0), 0.0)
    left = ((seen[:, None] - parts * alone) ** 2).sum(0)
    return np.where(np.arange(2) == int(np.argmin(left)), alone, 0.0)


@lru_cache(maxsize=256)
def _model_spectrum(cutoff: float) -> NDArray[np.float64]:
    """Return the spectrum of unit noise of a cutoff under the window of ``_periodograms``."""
    overlap = np.correlate(_hann(), _hann(), mode="full")[PATCH_PIXELS - 1 :]
    lags = np.r_[overlap, 0.0, overlap[:0:-1]] / overlap[0]
    windowed = lag_correlation(cutoff, 2 * PATCH_PIXELS) * np.outer(lags, lags)
    spectrum: NDArray[np.float64] = np.fft.fft2(windowed).real[::2, ::2] / PATCH_PIXELS**2
    return spectrum

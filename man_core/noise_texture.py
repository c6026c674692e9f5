"""Texture of CT noise as one number: the cutoff of the reconstruction kernel's apodisation.

White noise on the detector becomes, after filtered back-projection, noise whose power rises with
frequency (the ramp) and is limited by the apodisation of the kernel (Riederer 1978). With a Hann
apodisation that ends at ``cutoff`` times the Nyquist frequency of the image, one number covers
clinical kernels from smooth (0.5: neighbours correlate by 0.88) over B30f (about 1.1 to 1.3) to
sharp (1.9, D45f: about white); beyond 2 neighbours anticorrelate, as edge-enhancing kernels do.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MIN_CUTOFF, MAX_CUTOFF = 0.35, 3.5
"""Range of the cutoffs of clinical series, relative to Nyquist: smoothest and sharpest."""

DETECTOR_BIN_PIXELS = 0.6
"""Detector bin in image pixels: so fine that the kernel, not the detector, limits sharpness."""

MIN_RING = 2
"""Lowest frequency that is measured, cycles per patch; below it lies slow anatomy."""

_PATCHES_AT_ONCE = 128

DETECTOR_BAND = 0.5 / DETECTOR_BIN_PIXELS
"""Highest frequency of a projection, cycles per pixel."""


def ramp_power(
    frequency: NDArray[np.float64], cutoff: float, band: float = DETECTOR_BAND
) -> NDArray[np.float64]:
    """Noise power of an apodised ramp: f * Hann(f / (cutoff * Nyquist))^2 up to ``band``.

    Args:
        frequency: Cycles per pixel, any shape.
        cutoff: End of the Hann apodisation relative to Nyquist (0.5 cycles per pixel);
            infinity leaves the plain ramp.
        band: Cycles per pixel above which the power is 0.
    """
    fraction = np.minimum(frequency / (0.5 * cutoff), 1.0)
    hann = 0.5 * (1.0 + np.cos(np.pi * fraction))
    power: NDArray[np.float64] = frequency * hann**2 * (frequency < band)
    return power


@lru_cache(maxsize=128)
def image_power(rows: int, columns: int, cutoff: float) -> NDArray[np.float64]:
    """Compute the noise power spectrum of an image sampled at pixels, including aliases.

    Args:
        rows: Rows of the image.
        columns: Columns of the image.
        cutoff: See ``ramp_power``.

    Returns:
        float64 [row frequency, column frequency] in the order of numpy's FFT, read-only, in
        arbitrary units.
    """
    vertical, horizontal = np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None, :]
    power = np.zeros((rows, columns))
    for k in (-1.0, 0.0, 1.0):
        for m in (-1.0, 0.0, 1.0):
            power += ramp_power(np.hypot(vertical + k, horizontal + m), cutoff)
    power.flags.writeable = False
    return power


@lru_cache(maxsize=256)
def lag_correlation(cutoff: float, size: int = 64) -> NDArray[np.float64]:
    """Compute the autocorrelation [row lag, column lag] of noise of a cutoff, 1 at lag zero."""
    correlation = np.fft.ifft2(image_power(size, size, cutoff)).real
    correlation /= correlation[0, 0]
    correlation.flags.writeable = False
    return correlation


def parts_in_cache(patches: int) -> list[slice]:
    """Divide patches into parts that fit into the cache of a core.

    Their matrix products are also too small for several threads, which cost more than they save.
    """
    return [slice(first, first + _PATCHES_AT_ONCE) for first in range(0, patches, _PATCHES_AT_ONCE)]


def autocorrelation(
    residual: NDArray[np.float64],
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Estimate the autocorrelation of patches [patch, row, column] at lags 1..3 along both axes."""
    sums = np.zeros((2, 4))
    for part in parts_in_cache(len(residual)):
        sums += _lag_sums(residual[part])
    means = sums / (residual.shape[-1] - np.arange(4))
    along_rows, along_columns = (means[:, 1:] / (means[0, 0] or 1.0)).tolist()
    return _triple(along_rows), _triple(along_columns)


def _lag_sums(residual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum the products of pixels at lags 0..3 [axis, lag], along rows and along columns."""
    lags = [(slice(lag, None), slice(residual.shape[-1] - lag)) for lag in range(4)]
    along_rows = [np.sum(residual[:, :, one] * residual[:, :, other]) for one, other in lags]
    along_columns = [np.sum(residual[:, one] * residual[:, other]) for one, other in lags]
    return np.array([along_rows, along_columns])


def _triple(values: list[float]) -> tuple[float, float, float]:
    first, second, third = values
    return first, second, third


@lru_cache(maxsize=16)
def trend_basis(size: int, degree: int = 2) -> NDArray[np.float64]:
    """Return orthonormal polynomials [pixel, term] on a square patch of ``size`` pixels a side."""
    line = np.linspace(-1.0, 1.0, size)
    y, x = np.meshgrid(line, line, indexing="ij")
    terms = [y**i * x**j for i in range(degree + 1) for j in range(degree + 1 - i)]
    return np.linalg.qr(np.stack([term.ravel() for term in terms], axis=1))[0]


@lru_cache(maxsize=4)
def candidate_cutoffs() -> tuple[float, ...]:
    """Return the candidate cutoffs of a series, each about 4 % above the one before."""
    return tuple(float(c) for c in np.geomspace(MIN_CUTOFF, MAX_CUTOFF, 60))


def periodograms(residual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the spectra of Hann-windowed patches; the sum of each is the patch's variance.

    Args:
        residual: Patches [patch, row, column] of an even size.

    Returns:
        Power [patch, row frequency, column frequency], HU^2. The negative column frequencies, which
        a real image does not need, are counted with the positive ones.
    """
    size = residual.shape[-1]
    window = np.outer(_hann(size), _hann(size))
    scale = _times(size) / (float(np.sum(window**2)) * size**2)
    power = np.empty((len(residual), size, size // 2 + 1))
    for part in parts_in_cache(len(residual)):
        spectrum = np.fft.rfft2(residual[part] * window)
        np.multiply(spectrum.real**2 + spectrum.imag**2, scale, out=power[part])
    return power


def ring_profile(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average the spectrum of a patch over rings of 1, 2 ... cycles per patch, up to Nyquist."""
    size = len(power)
    ring, times = _ring_numbers(size), np.broadcast_to(_times(size), power.shape)
    rings = range(1, size // 2 + 1)
    return np.array([power[ring == k].sum() / times[ring == k].sum() for k in rings])


def band_power(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum spectra [..., row frequency, column frequency] from ``MIN_RING`` cycles per patch on."""
    inside = (_ring_numbers(power.shape[-2]) >= MIN_RING).astype(np.float64)
    total: NDArray[np.float64] = np.tensordot(power, inside)
    return total


def match_cutoff(profile: NDArray[np.float64]) -> float:
    """Find the cutoff that explains a profile [ring] best.

    The profile is modelled as noise of a cutoff plus anatomy whose power falls with the cube of the
    frequency (Burgess 1999); both amounts are fitted for every candidate. Errors are weighted by
    the root of the power, so that the weak upper rings count.
    """
    ring = np.arange(MIN_RING, len(profile) + 1, dtype=np.float64)
    seen = np.maximum(profile[MIN_RING - 1 :], 1e-9)
    weight = np.sqrt(ring / seen)
    noise = _candidate_profiles(2 * len(profile))[:, MIN_RING - 1 :]
    misfits = _misfits(noise * weight, weight / ring**3, seen * weight)
    return candidate_cutoffs()[int(misfits.argmin())]


def _misfits(
    noise: NDArray[np.float64], anatomy: NDArray[np.float64], seen: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fit non-negative amounts of each noise [candidate, ring] and of anatomy [ring].

    Returns:
        Sum of squared errors [candidate].
    """
    square, mixed, other = (noise**2).sum(axis=1), noise @ anatomy, anatomy @ anatomy
    by_noise, by_anatomy = noise @ seen, anatomy @ seen
    determinant = square * other - mixed**2
    both = (
        (by_noise * other - by_anatomy * mixed) / determinant,
        (by_anatomy * square - by_noise * mixed) / determinant,
    )
    zeros = np.zeros(len(noise))
    alone = (by_noise / square, zeros), (zeros, np.full(len(noise), by_anatomy / other))

    def misfit(amounts: tuple[NDArray[np.float64], NDArray[np.float64]]) -> NDArray[np.float64]:
        fit = amounts[0][:, None] * noise + amounts[1][:, None] * anatomy
        return np.asarray(((seen - fit) ** 2).sum(axis=1))

    possible = np.minimum(*both) >= 0.0
    return np.where(possible, misfit(both), np.minimum(*(misfit(one) for one in alone)))


@lru_cache(maxsize=256)
def model_spectrum(cutoff: float, size: int) -> NDArray[np.float64]:
    """Return the spectrum of unit noise of a cutoff under the window of ``periodograms``."""
    overlap = np.correlate(_hann(size), _hann(size), mode="full")[size - 1 :]
    lags = np.r_[overlap, 0.0, overlap[:0:-1]] / overlap[0]
    windowed = lag_correlation(cutoff, 2 * size) * np.outer(lags, lags)
    spectrum: NDArray[np.float64] = np.fft.fft2(windowed).real[::2, ::2] / size**2
    return spectrum[:, : size // 2 + 1] * _times(size)


@lru_cache(maxsize=4)
def _candidate_profiles(size: int) -> NDArray[np.float64]:
    """Profiles [candidate, ring] of unit noise of each candidate cutoff."""
    spectra = (model_spectrum(cutoff, size) for cutoff in candidate_cutoffs())
    return np.stack([ring_profile(spectrum) for spectrum in spectra])


def _hann(size: int) -> NDArray[np.float64]:
    return np.hanning(size + 2)[1:-1]


@lru_cache(maxsize=4)
def _ring_numbers(size: int) -> NDArray[np.float64]:
    """Cycles per patch [row frequency, column frequency], rounded."""
    f, half = np.fft.fftfreq(size) * size, np.fft.rfftfreq(size) * size
    return np.asarray(np.rint(np.hypot(f[:, None], half[None, :])), dtype=np.float64)


@lru_cache(maxsize=4)
def _times(size: int) -> NDArray[np.float64]:
    """Return how many frequencies of a whole spectrum each column frequency stands for."""
    return np.array([1.0, *[2.0] * (size // 2 - 1), 1.0])

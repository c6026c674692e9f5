"""Fourier ring correlation of patches, as a detector of structure that only one image has.

sFRC (Kc, Zeng, Soni and Badano, arXiv 2603.04673): the correlation of two images in rings of equal
frequency, patch by patch. Where it falls below a threshold at a low frequency already, one image
shows something coarse that the other does not.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

PATCH_PIXELS = 32
"""Side of a patch; the first ring then has one cycle in 32 pixels."""

CORRELATION = 0.5
"""Correlation below which two patches no longer show the same at a frequency."""

Patches = NDArray[np.floating]
"""HU [patch, row, column], square."""


def ring_correlation(first: Patches, second: Patches) -> NDArray[np.float64]:
    """Compute the correlation of two images in each ring of frequencies.

    Patches lose their mean and fade out by a Hann window.

    Args:
        first: Patches of one image.
        second: The same patches of the other.

    Returns:
        Correlation [patch, ring], -1 to 1; ring k has k + 1 cycles in a patch. 0 where an image
        has nothing at that frequency.

    Raises:
        ValueError: The shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"Patches of shapes {first.shape} and {second.shape} cannot be compared.")
    one, other = _spectrum(first), _spectrum(second)
    rings = _rings(first.shape[1])
    together = np.real(one * np.conj(other)).reshape(len(one), len(rings)) @ rings
    powers = [(np.abs(each) ** 2).reshape(len(each), len(rings)) @ rings for each in (one, other)]
    scale = np.sqrt(powers[0] * powers[1])
    correlation: NDArray[np.float64] = np.divide(
        together, scale, out=np.zeros_like(scale), where=scale > 0
    )
    return correlation


def agreement_frequency(
    correlation: NDArray[np.float64], side_pixels: int, pixel_mm: float
) -> NDArray[np.float64]:
    """Return the frequency up to which two images agree, cycles/mm [patch].

    Where the correlation first falls below ``CORRELATION``, interpolated between rings, at
    frequency 0 being whole; the last ring's frequency if it never falls.

    Args:
        correlation: Correlation [patch, ring] of ``ring_correlation``.
        side_pixels: Side of the patches.
        pixel_mm: Side of a pixel.
    """
    curve = np.pad(correlation, ((0, 0), (1, 0)), constant_values=1.0)
    below = curve < CORRELATION
    first = np.where(below.any(axis=1), below.argmax(axis=1), curve.shape[1] - 1)
    patch = np.arange(len(curve))
    before, after = curve[patch, first - 1], np.minimum(curve[patch, first], CORRELATION)
    whole = before <= CORRELATION  # nothing lies between them
    share = np.where(whole, 1.0, (before - CORRELATION) / np.where(whole, 1.0, before - after))
    frequency: NDArray[np.float64] = (first - 1 + share) / (side_pixels * pixel_mm)
    return frequency


def _spectrum(patches: Patches) -> NDArray[np.complex128]:
    window = _window(patches.shape[1])
    hu = patches.astype(np.float64)
    mean = (hu * window).sum(axis=(1, 2), keepdims=True) / window.sum()
    spectrum: NDArray[np.complex128] = np.fft.rfft2((hu - mean) * window)
    return spectrum


@lru_cache(maxsize=4)
def _window(side: int) -> NDArray[np.float64]:
    line = np.hanning(side + 2)[1:-1]
    return line[:, None] * line[None, :]


@lru_cache(maxsize=4)
def _rings(side: int) -> NDArray[np.float64]:
    """Return the weights of each frequency of a real transform in each ring [frequency, ring]."""
    down, across = np.fft.fftfreq(side) * side, np.fft.rfftfreq(side) * side
    ring = np.rint(np.hypot(down[:, None], across[None, :])).astype(int)
    weight = np.where((across == 0) | (across == side / 2), 1.0, 2.0)  # the other half is conjugate
    each = [np.where(ring == number, weight, 0.0).ravel() for number in range(1, side // 2)]
    return np.stack(each, axis=1)

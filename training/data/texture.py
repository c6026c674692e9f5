"""Texture of a kernel for broadband noise: one filter in the frequency plane per cutoff."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from man_core.noise_texture import MAX_CUTOFF, MIN_CUTOFF, image_power

CUTOFFS: tuple[float, ...] = tuple(float(c) for c in np.geomspace(MIN_CUTOFF, MAX_CUTOFF, 33))
"""Cutoffs of the textures to draw from, 7.5 % apart: finer than they can be measured."""

MIN_TRANSFER = 1e-3
"""Transfer of a frequency below which a kernel has removed it and nothing is left to filter."""

TABLE_EVERY = 4
"""Interval of the cutoffs at which amplitudes are measured, with interpolation between them."""


def nearest_cutoff(cutoff: float) -> int:
    """Return the index in ``CUTOFFS`` nearest to a cutoff."""
    return int(np.argmin(np.abs(np.log(CUTOFFS) - np.log(cutoff))))


@lru_cache(maxsize=8)
def transfers(size: int) -> NDArray[np.float32]:
    """Compute amplitude filters for ``numpy.fft.rfft2`` of a square of plain-ramp noise.

    Args:
        size: Side of the square, pixels.

    Returns:
        float32 [cutoff, row frequency, column frequency], read-only.
    """
    half = size // 2 + 1
    plain = image_power(size, size, float("inf"))[:, :half]
    plain = np.where(plain > 0, plain, np.inf)  # the plain ramp has no mean, nor does the noise
    stack = [np.sqrt(image_power(size, size, c)[:, :half] / plain) for c in CUTOFFS]
    result = np.stack(stack).astype(np.float32)
    result.flags.writeable = False
    return result


def apodise(noise: NDArray[np.float32], cutoffs: NDArray[np.intp]) -> NDArray[np.float32]:
    """Filter squares of plain-ramp noise.

    Args:
        noise: float32 [batch, row, column], rows and columns equal.
        cutoffs: Index in ``CUTOFFS`` [batch].

    Returns:
        float32 [batch, row, column].
    """
    spectrum = np.fft.rfft2(noise)
    spectrum *= transfers(noise.shape[-1])[cutoffs]
    return np.fft.irfft2(spectrum, s=noise.shape[-2:]).astype(np.float32, copy=False)


def smoothed(
    image: NDArray[np.float32], sharp: NDArray[np.intp], smooth: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Filter squares of an image to a smoother kernel; the mean is preserved.

    Kernels are filters of the image, so two of them differ by the ratio of their apodisations.

    Args:
        image: float32 [batch, row, column], rows and columns equal.
        sharp: Index in ``CUTOFFS`` of the present texture [batch].
        smooth: Index of the desired texture [batch], not above ``sharp``.

    Returns:
        float32 [batch, row, column].
    """
    table = transfers(image.shape[-1])
    ratio = np.divide(
        table[smooth], table[sharp], where=table[sharp] > MIN_TRANSFER, out=table[smooth]
    )
    ratio[:, 0, 0] = 1.0
    spectrum = np.fft.rfft2(image) * np.minimum(ratio, 1.0)
    return np.fft.irfft2(spectrum, s=image.shape[-2:]).astype(np.float32, copy=False)


def table_cutoffs() -> NDArray[np.intp]:
    """Return the indices in ``CUTOFFS`` at which amplitudes are measured."""
    return np.arange(0, len(CUTOFFS), TABLE_EVERY)


def amplitude_at(table: list[float], cutoff: int) -> float:
    """Interpolate the standard deviation of a noise image at a cutoff from its measured table."""
    return float(np.interp(cutoff, table_cutoffs(), table))

"""Task transfer function: sharpness of an edge of a given contrast.

Richard et al. 2012 (Med Phys 39:4115) and AAPM TG-233, section 3.3: the edge-spread function over
the distance from the centre of a rod, finer than the pixels since they lie at every distance; its
derivative; the Fourier transform of that. Since a denoiser is not linear, each contrast and each
dose has its own transfer function, and noise must be averaged out before differentiation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS_PER_PIXEL = 4
"""Oversampling of the edge-spread function."""

REACH_MM = 8.0
"""Distance to either side of the edge that is evaluated."""


@dataclass(frozen=True, eq=False)
class TaskTransfer:
    """Task transfer function of an edge.

    Attributes:
        frequency: Frequencies from 0 to the Nyquist frequency of the pixels, cycles/mm.
        transfer: Transfer at each frequency, 1 at 0.
        contrast_hu: Measured mean inside minus mean outside.
    """

    frequency: NDArray[np.float64]
    transfer: NDArray[np.float64]
    contrast_hu: float

    def at(self, share: float) -> float:
        """Return the first frequency at which the transfer has fallen to a share, cycles/mm.

        f50 is ``at(0.5)`` and f10 is ``at(0.1)``; NaN if it does not fall that far.
        """
        below = np.flatnonzero(self.transfer <= share)
        if len(below) == 0 or below[0] == 0:
            return math.nan
        last = int(below[0])
        drop = self.transfer[last - 1] - self.transfer[last]
        part = (self.transfer[last - 1] - share) / drop
        step = self.frequency[last] - self.frequency[last - 1]
        return float(self.frequency[last - 1] + part * step)


def task_transfer(
    hu: NDArray[np.floating], pixel_mm: float, centre: tuple[float, float], radius_mm: float
) -> TaskTransfer:
    """Measure the task transfer function of a circular edge.

    Args:
        hu: Slices that differ only by noise [slice, row, column], which are averaged, or one
            [row, column].
        pixel_mm: Side of a pixel.
        centre: Centre of the disc (row, column) in pixels.
        radius_mm: Radius of the disc; it must be uniform within ``REACH_MM`` to either side.

    Raises:
        ValueError: The radius does not exceed the reach, or the disc shows no contrast.
    """
    if radius_mm <= REACH_MM:
        raise ValueError(f"The radius of a disc must exceed {REACH_MM} mm, got {radius_mm} mm.")
    step_mm = pixel_mm / BINS_PER_PIXEL
    edge = _edge_spread(hu.reshape(-1, *hu.shape[-2:]).mean(axis=0), pixel_mm, centre, radius_mm)
    quarter = len(edge) // 4
    contrast = float(edge[:quarter].mean() - edge[-quarter:].mean())
    if contrast == 0.0:
        raise ValueError("The disc shows no contrast and thus has no transfer function.")
    line = -np.diff(edge) * _taper(len(edge) - 1)
    size = 8 * len(line)
    frequency = np.fft.rfftfreq(size, step_mm)
    # The difference of two bins blurs by a sinc.
    spectrum = np.abs(np.fft.rfft(line, size)) / np.sinc(frequency * step_mm)
    shown = frequency <= 0.5 / pixel_mm
    transfer = np.asarray(spectrum[shown] / spectrum[0], dtype=np.float64)
    rising = np.asarray(frequency[shown], dtype=np.float64)
    return TaskTransfer(rising, transfer, contrast)


def _taper(length: int) -> NDArray[np.float64]:
    """Return a window that is flat over the middle half, around the edge, and 0 at the ends."""
    away = np.abs(np.linspace(-1.0, 1.0, length))
    falling: NDArray[np.float64] = 0.5 * (1.0 + np.cos(np.pi * np.clip(2.0 * away - 1.0, 0.0, 1.0)))
    return falling


def _edge_spread(
    hu: NDArray[np.floating], pixel_mm: float, centre: tuple[float, float], radius_mm: float
) -> NDArray[np.float64]:
    """Average HU [bin] over the distance from the centre, from inside the edge to outside it."""
    row, column = np.ogrid[: hu.shape[0], : hu.shape[1]]
    distance = pixel_mm * np.hypot(row - centre[0], column - centre[1])
    bins = 2 * round(REACH_MM / pixel_mm * BINS_PER_PIXEL)
    number = np.floor((distance - radius_mm) / pixel_mm * BINS_PER_PIXEL).astype(int) + bins // 2
    near = (number >= 0) & (number < bins)
    count = np.bincount(number[near], minlength=bins)
    total = np.bincount(number[near], weights=hu[near], minlength=bins)
    within = np.bincount(number[near], weights=distance[near], minlength=bins)
    held = np.flatnonzero(count)
    middles = radius_mm + (np.arange(bins) + 0.5 - bins // 2) * pixel_mm / BINS_PER_PIXEL
    return np.interp(middles, within[held] / count[held], total[held] / count[held])

"""The task transfer function: how sharp an edge of a given contrast is shown.

Richard et al. 2012 (Med Phys 39:4115) and AAPM TG-233, section 3.3: the edge-spread function over
the distance from the centre of a rod, finer than the pixels since they lie at every distance; its
derivative; the Fourier transform of that. A denoiser is not linear, so that each contrast and each
dose has a transfer function of its own, and noise must be averaged away before the derivative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS_PER_PIXEL = 4
"""Oversampling of the edge-spread function."""

REACH_MM = 8.0
"""The edge is looked at so far to either side."""


@dataclass(frozen=True, eq=False)
class TaskTransfer:
    """Task transfer function of an edge.

    Attributes:
        frequency: Rising from 0, cycles/mm, up to the pixels' Nyquist frequency.
        transfer: 1 at frequency 0.
        contrast_hu: Mean inside minus mean outside, as seen.
    """

    frequency: NDArray[np.float64]
    transfer: NDArray[np.float64]
    contrast_hu: float

    def at(self, share: float) -> float:
        """First frequency at which the transfer has fallen to a share, cycles/mm.

        f50 is ``at(0.5)`` and f10 ``at(0.1)``; NaN if it never falls so far.
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
    """Task transfer function of a circular edge.

    Args:
        hu: Slices that differ by noise only [slice, row, column], or one [row, column]; averaged.
        pixel_mm: Side of a pixel.
        centre: Centre of the disc (row, column) in pixels.
        radius_mm: Of the disc; the surroundings are uniform ``REACH_MM`` to either side.

    Raises:
        ValueError: The disc is smaller than the reach or shows no contrast.
    """
    if radius_mm <= REACH_MM:
        raise ValueError(f"a disc for the transfer function needs more than {REACH_MM} mm radius")
    step_mm = pixel_mm / BINS_PER_PIXEL
    edge = _edge_spread(hu.reshape(-1, *hu.shape[-2:]).mean(axis=0), pixel_mm, centre, radius_mm)
    quarter = len(edge) // 4
    contrast = float(edge[:quarter].mean() - edge[-quarter:].mean())
    if contrast == 0.0:
        raise ValueError("the disc shows no contrast: it has no transfer function")
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
    """Flat over the middle half, so that the edge itself stays, and falling to 0 at the ends."""
    away = np.abs(np.linspace(-1.0, 1.0, length))
    falling: NDArray[np.float64] = 0.5 * (1.0 + np.cos(np.pi * np.clip(2.0 * away - 1.0, 0.0, 1.0)))
    return falling


def _edge_spread(
    hu: NDArray[np.floating], pixel_mm: float, centre: tuple[float, float], radius_mm: float
) -> NDArray[np.float64]:
    """Mean HU [bin] over the distance from the centre, from inside the edge to outside it."""
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

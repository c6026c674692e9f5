"""Detectability of a known low-contrast signal by a channelised Hotelling observer.

The ideal linear observer of an image filtered by a few channels, as in human vision (Myers and
Barrett 1987, J Opt Soc Am A 4:2447), here dense differences of Gaussians (Abbey and Barrett 2001,
J Opt Soc Am A 18:473). A denoiser cannot add information; one that preserves the relevant part
does not lower the index.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

CHANNELS = 8
FIRST_WIDTH = 0.015
"""Width of the lowest channel in cycles per pixel."""

WIDTH_GROWTH = 1.4
BANDWIDTH = 1.67
"""Ratio of the widths of successive channels, and of outer to inner width (Abbey and Barrett)."""

MIN_PAIRS_PER_CHANNEL = 5
"""Minimum number of image pairs per channel for an estimate of the covariance."""


def dog_channels(side: int, count: int = CHANNELS) -> NDArray[np.float64]:
    """Build dense difference-of-Gaussians channels, centred on an image of ``side`` pixels.

    Abbey and Barrett 2001, eq. 18: exp(-(f / Q s)^2 / 2) - exp(-(f / s)^2 / 2) in the frequency
    domain, s growing from channel to channel.

    Returns:
        Channels [channel, row, column] of unit length, orthogonal to a constant.
    """
    f = np.fft.fftfreq(side)
    squared = f[:, None] ** 2 + f[None, :] ** 2
    widths = FIRST_WIDTH * WIDTH_GROWTH ** np.arange(count)
    outer = np.exp(-0.5 * squared / (BANDWIDTH * widths[:, None, None]) ** 2)
    inner = np.exp(-0.5 * squared / widths[:, None, None] ** 2)
    middle = 0.5 * (side - 1)
    to_middle = np.exp(-2j * np.pi * middle * (f[:, None] + f[None, :]))
    channels = np.fft.ifft2((outer - inner) * to_middle).real
    lengths = np.sqrt((channels**2).sum(axis=(1, 2), keepdims=True))
    normal: NDArray[np.float64] = channels / lengths
    return normal


def detectability(
    present: NDArray[np.floating],
    absent: NDArray[np.floating],
    channels: NDArray[np.float64] | None = None,
) -> float:
    """Estimate the detectability index d' of a signal for the channelised Hotelling observer.

    The images come in pairs, with and without the signal in the same noise, so that few of them
    determine the mean of the signal well. Two small-sample errors of d'^2 are corrected: the
    inverse of an estimated covariance is too large by n / (n - channels - 1) with n = pairs - 1
    (Wishart), and the noise of the mean difference adds the trace of its covariance.

    Args:
        present: Images with the signal at the centre [pair, row, column], HU.
        absent: The same images without it.
        channels: Channels [channel, row, column]; None: ``dog_channels`` of this size.

    Returns:
        d'; 0 if the signal is not significant.

    Raises:
        ValueError: The shapes differ or there are fewer than five pairs per channel.
    """
    channels = dog_channels(present.shape[-1]) if channels is None else channels
    pairs, count = len(present), len(channels)
    if present.shape != absent.shape or present.shape[1:] != channels.shape[1:]:
        raise ValueError(f"Shapes do not match: {present.shape}, {absent.shape}, {channels.shape}.")
    least = MIN_PAIRS_PER_CHANNEL * count
    if pairs < least:
        raise ValueError(f"{count} channels need {least} pairs, got {pairs}.")
    seen, unseen = (_responses(images, channels) for images in (present, absent))
    covariance = 0.5 * (np.cov(seen, rowvar=False) + np.cov(unseen, rowvar=False))
    inverse = np.linalg.inv(covariance) * (pairs - count - 2) / (pairs - 1)
    signal = (seen - unseen).mean(axis=0)
    chance = np.cov(seen - unseen, rowvar=False) / pairs
    return math.sqrt(max(0.0, float(signal @ inverse @ signal - np.trace(inverse @ chance))))


def _responses(images: NDArray[np.floating], channels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the channel responses [image, channel]."""
    responses: NDArray[np.float64] = np.tensordot(
        images.astype(np.float64), channels, axes=([1, 2], [1, 2])
    )
    return responses

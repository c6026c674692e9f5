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

LAGUERRE_GAUSS_CHANNELS = 5
LAGUERRE_GAUSS_WIDTH = 2.0 / 3.0
"""Width of the Laguerre-Gauss channels over the radius of the signal (FDA's LCD-CT)."""

GABOR_BANDS = 4
GABOR_ANGLES = 4
GABOR_HIGHEST = 0.125
"""Upper end of the highest octave of the Gabor channels, cycles per pixel (FDA's LCD-CT)."""

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


def laguerre_gauss_channels(
    side: int, width_pixels: float, count: int = LAGUERRE_GAUSS_CHANNELS
) -> NDArray[np.float64]:
    """Build Laguerre-Gauss channels, centred on an image of ``side`` pixels.

    Gallas and Barrett 2003 (J Opt Soc Am A 20:1725), eq. 14: sqrt(2) / a exp(-pi r^2 / a^2)
    L_n(2 pi r^2 / a^2) with the Laguerre polynomials L_n. They span the round signals of a width
    comparable to a, so that few of them come near the ideal linear observer.

    Args:
        side: Side of the image, pixels.
        width_pixels: Width a of the Gaussian, pixels.
        count: Number of channels.

    Returns:
        Channels [channel, row, column].
    """
    across, down = _centred(side)
    square = 2.0 * math.pi * (across**2 + down**2) / width_pixels**2
    gaussian = math.sqrt(2.0) / width_pixels * np.exp(-0.5 * square)
    polynomials = np.eye(count)
    return np.stack([gaussian * np.polynomial.laguerre.lagval(square, n) for n in polynomials])


def gabor_channels(
    side: int,
    highest: float = GABOR_HIGHEST,
    bands: int = GABOR_BANDS,
    angles: int = GABOR_ANGLES,
) -> NDArray[np.float64]:
    """Build Gabor channels, centred on an image of ``side`` pixels, as in human vision.

    Octave bands, each a cosine of its middle frequency under a Gaussian whose spectrum has the
    width of the band, at angles evenly spaced over a half circle (FDA's LCD-CT, after Watson 1983).

    Args:
        side: Side of the image, pixels.
        highest: Upper end of the highest band, cycles per pixel.
        bands: Number of octaves.
        angles: Number of angles.

    Returns:
        Channels [band and angle, row, column].
    """
    across, down = _centred(side)
    channels = []
    for band in range(bands):
        middle, width = 0.75 * highest / 2.0**band, 0.5 * highest / 2.0**band
        extent = 4.0 * math.log(2.0) / (math.pi * width)
        gaussian = np.exp(-4.0 * math.log(2.0) * (across**2 + down**2) / extent**2)
        for angle in np.arange(angles) * math.pi / angles:
            along = across * math.cos(angle) + down * math.sin(angle)
            channels.append(gaussian * np.cos(2.0 * math.pi * middle * along))
    return np.stack(channels)


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
    seen, unseen = (channel_responses(images, channels) for images in (present, absent))
    covariance = 0.5 * (np.cov(seen, rowvar=False) + np.cov(unseen, rowvar=False))
    inverse = np.linalg.inv(covariance) * (pairs - count - 2) / (pairs - 1)
    signal = (seen - unseen).mean(axis=0)
    chance = np.cov(seen - unseen, rowvar=False) / pairs
    return math.sqrt(max(0.0, float(signal @ inverse @ signal - np.trace(inverse @ chance))))


def channel_responses(
    images: NDArray[np.floating], channels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute the channel responses [image, channel] of images [image, row, column]."""
    responses: NDArray[np.float64] = np.tensordot(
        images.astype(np.float64), channels, axes=([1, 2], [1, 2])
    )
    return responses


def _centred(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distances from the middle of an image, across [1, column] and down [row, 1]."""
    line = np.arange(side, dtype=np.float64) - 0.5 * (side - 1)
    return line[None, :], line[:, None]

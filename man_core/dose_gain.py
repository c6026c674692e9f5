"""Dose gain: how much noise a denoiser leaves, as if from so many times the dose."""

from __future__ import annotations

from typing import Final

MIN_DOSE_GAIN: Final = 1.0
"""Least dose gain: leave the image as it is."""

MAX_DOSE_GAIN: Final = 64.0
"""Largest dose gain; fits see none beyond 50."""


def gain_for_noise(noise_hu: float, target_hu: float) -> float:
    """Return the dose gain that brings noise to a target.

    The standard deviation of noise falls as the square root of the dose.

    Args:
        noise_hu: Noise of the image, HU.
        target_hu: Noise wanted, HU; above 0.

    Returns:
        The gain to two significant digits, so that estimates of the noise that differ by rounding
        give the same; the nearest possible one where none reaches the target.

    Example:
        >>> gain_for_noise(30.0, 15.0), gain_for_noise(10.0, 15.0), gain_for_noise(300.0, 15.0)
        (4.0, 1.0, 64.0)
    """
    ratio = min(noise_hu / target_hu, MAX_DOSE_GAIN**0.5)
    return float(f"{max(ratio**2, MIN_DOSE_GAIN):.2g}")

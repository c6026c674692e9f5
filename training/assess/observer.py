"""Performance of a channelised Hotelling observer with exact confidence intervals.

Wunderlich, Noo, Gallas and Heilbrun 2015 (IEEE Trans Med Imaging 34:453): with normal channel
responses of equal covariance, the squared distance of the two sample means in units of the pooled
covariance has a noncentral F distribution whose noncentrality is d'^2. All images train the
observer and measure it, which no split of them does as well; the distribution accounts for that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ncfdtr, ndtr

CONFIDENCE = 0.95

MIN_IMAGES_PER_CHANNEL = 5
"""Minimum number of images per channel, both kinds together."""


@dataclass(frozen=True)
class Observed:
    """Performance of an observer.

    Attributes:
        d: Detectability index d'; 0 if the signal is not significant.
        interval: Its confidence interval.
    """

    d: float
    interval: tuple[float, float]

    @property
    def auc(self) -> float:
        """Area under the ROC curve of normal ratings."""
        return _auc(self.d)

    @property
    def auc_interval(self) -> tuple[float, float]:
        """Confidence interval of ``auc``."""
        return _auc(self.interval[0]), _auc(self.interval[1])


def observe(seen: NDArray[np.float64], unseen: NDArray[np.float64]) -> Observed | None:
    """Let a channelised Hotelling observer look for a signal.

    Args:
        seen: Channel responses to images with the signal [image, channel].
        unseen: The same to independent images without it.

    Returns:
        d' with its interval; None if there are too few images for so many channels.
    """
    count = seen.shape[1]
    enough = len(seen) + len(unseen) >= MIN_IMAGES_PER_CHANNEL * count
    if min(len(seen), len(unseen)) < 2 or not enough:
        return None
    freedom = len(seen) + len(unseen) - 2
    scatter = sum((len(rows) - 1) * np.cov(rows, rowvar=False) for rows in (seen, unseen))
    signal = seen.mean(axis=0) - unseen.mean(axis=0)
    squared = float(signal @ np.linalg.solve(scatter / freedom, signal))
    weight = len(seen) * len(unseen) / (len(seen) + len(unseen))
    return _estimate(squared, count, freedom - count + 1, freedom, weight)


def _estimate(squared: float, channels: int, rest: int, freedom: int, weight: float) -> Observed:
    """Estimate d' from the squared distance; ``weight`` d'^2 is the noncentrality."""
    ratio = weight * squared * rest / (channels * freedom)
    centre = max(0.0, channels * ratio * (rest - 2) / rest - channels)
    tail = 0.5 * (1.0 - CONFIDENCE)
    ends = [_noncentrality(ratio, channels, rest, share) for share in (1.0 - tail, tail)]
    lowest, highest = (math.sqrt(end / weight) for end in ends)
    return Observed(math.sqrt(centre / weight), (lowest, highest))


def _noncentrality(ratio: float, channels: int, rest: int, share: float) -> float:
    """Find the noncentrality at which ``share`` of the F distribution lies below a ratio."""

    def excess(noncentrality: float) -> float:
        return float(ncfdtr(channels, rest, noncentrality, ratio)) - share

    if excess(0.0) <= 0.0:
        return 0.0
    highest = 1.0 + channels * ratio
    while excess(highest) > 0.0:
        highest *= 2.0
    return float(brentq(excess, 0.0, highest))


def _auc(d: float) -> float:
    return float(ndtr(d / math.sqrt(2.0)))

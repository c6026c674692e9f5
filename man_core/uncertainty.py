"""Uncertainty of a result, as its spread over seeds.

A diffusion model draws its result from the plausible ones, starting from a seed. Where several
seeds agree, the source determined the result; where they differ, the model filled in. This is only
one part of the uncertainty: a model that makes the same error with every seed shows no spread, and
one that starts from the condition instead of noise, or takes one or two steps, shows little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from man_core.condition import Condition
from man_core.denoiser import Denoiser
from man_core.noise import soft_tissue
from man_core.pipeline import denoise_slices
from man_core.volume import Volume

MIN_SEEDS = 2


@dataclass(frozen=True)
class UncertaintySummary:
    """Spread over seeds in soft tissue.

    Attributes:
        seeds: Number of seeds.
        median_hu: Median over voxels of the standard deviation, HU; None without soft tissue.
        p99_hu: Its 99th percentile.
    """

    seeds: int
    median_hu: float | None
    p99_hu: float | None


def spread_over_seeds(
    volume: Volume,
    denoiser: Denoiser,
    condition: Condition,
    *,
    seeds: Sequence[int],
    strength: float = 1.0,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[Volume, UncertaintySummary]:
    """Denoise a volume once per seed and measure the spread.

    Args:
        volume: The low-dose series.
        denoiser: Denoising method.
        condition: Acquisition facts of the scan.
        seeds: At least two; with eight the standard deviation is known to about a quarter.
        strength: 0 to 1, blended in HU.
        should_stop: Called before every batch.

    Returns:
        Standard deviation over seeds [slice, row, column] in HU, and a summary.

    Raises:
        ValueError: Fewer than two different seeds.
        ModelError: The model returned values that are not finite.
        Stopped: ``should_stop`` returned True.
    """
    if len(set(seeds)) < MIN_SEEDS:
        raise ValueError(f"The spread over seeds needs at least {MIN_SEEDS} different seeds.")
    mean, squares = np.zeros(volume.shape, np.float32), np.zeros(volume.shape, np.float32)
    for count, seed in enumerate(seeds, start=1):
        result = denoise_slices(
            volume.hu, denoiser, condition, seed=seed, strength=strength, should_stop=should_stop
        )
        change = result - mean  # Welford 1962: squares of large numbers would lose the spread
        mean += change / count
        squares += change * (result - mean)
    spread = np.sqrt(squares / (len(seeds) - 1))
    return volume.with_hu(spread), _summary(volume, spread, len(seeds))


def _summary(volume: Volume, spread: NDArray[np.float32], seeds: int) -> UncertaintySummary:
    """Summarise slice by slice, since a mask of the whole series would need much memory."""
    found = [one[soft_tissue(hu)[0]] for hu, one in zip(volume.hu, spread, strict=True)]
    values = np.concatenate(found)
    if not len(values):
        return UncertaintySummary(seeds, None, None)
    median, p99 = np.percentile(values, (50.0, 99.0))
    return UncertaintySummary(seeds, float(median), float(p99))

"""How much of a result is the sampler's choice: the spread over seeds.

A diffusion model draws its result from what it holds possible, beginning with a seed. Where several
seeds agree the source decided, where they differ the model filled in. This is one part of the
uncertainty only: a model that is wrong in the same way with every seed shows no spread, and one
that begins from the condition instead of noise, or takes one or two steps, shows little.
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
        seeds: How many.
        median_hu: Median of the voxels' standard deviations, HU; None without soft tissue.
        p99_hu: Their 99th percentile.
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
    """Denoise a volume once for each seed and take the spread.

    Args:
        volume: The low-dose series.
        denoiser: A method ready to run.
        condition: What is known of the scan.
        seeds: At least two; eight give a standard deviation to about a quarter of itself.
        strength: 0 to 1, blended in HU.
        should_stop: Asked before every batch.

    Returns:
        Standard deviation over seeds in HU [slice, row, column], and a summary.

    Raises:
        ValueError: Fewer than two different seeds.
        ModelError: The model gave values that are not finite.
        Stopped: ``should_stop`` said so.
    """
    if len(set(seeds)) < MIN_SEEDS:
        raise ValueError(f"the spread over seeds needs at least {MIN_SEEDS} of them")
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
    """Slice by slice, since a mask of the whole series would need much memory."""
    found = [one[soft_tissue(hu)[0]] for hu, one in zip(volume.hu, spread, strict=True)]
    values = np.concatenate(found)
    if not len(values):
        return UncertaintySummary(seeds, None, None)
    median, p99 = np.percentile(values, (50.0, 99.0))
    return UncertaintySummary(seeds, float(median), float(p99))

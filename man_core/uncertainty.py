"""Uncertainty of a result, as its spread over seeds.

A diffusion model draws its result from the plausible ones, starting from a seed. Where several
seeds agree, the source determined the result; where they differ, the model filled in. This is only
one part of the uncertainty: a model that makes the same error with every seed shows no spread, and
one that starts from the condition instead of noise, or takes one or two steps, shows little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from man_core.batches import BatchWork, all_finite, check_stop, denoised_batches, own_slices
from man_core.beyond_padding import shown_slices
from man_core.condition import Condition
from man_core.denoiser import Denoiser
from man_core.errors import ModelError
from man_core.noise import soft_tissue
from man_core.pipeline import OnResult
from man_core.slices import ArraySlices, SliceSource
from man_core.volume import Volume

MIN_SEEDS = 2

ROUNDED_BITS: Final = 12
"""Bits rounded off the 23 of a float32's fraction, which leaves a relative error of 1 / 4096."""


@dataclass(frozen=True)
class UncertaintySummary:
    """Spread over seeds in soft tissue.

    Each voxel's value is rounded to 12 significant binary digits, by at most 1 / 4096 of itself;
    median and percentile are those of the rounded values of all voxels, with linear interpolation.

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
        should_stop: Called for every batch before each seed.

    Returns:
        Standard deviation over seeds [slice, row, column] in HU, and a summary.

    Raises:
        ValueError: Fewer than two different seeds, or a strength that is not within 0 to 1.
        ModelError: The model returned values that are not finite.
        Stopped: ``should_stop`` returned True.
    """
    spread = np.empty(volume.shape, np.float32)

    def keep(first: int, part: NDArray[np.float32]) -> None:
        spread[first : first + len(part)] = part

    summary = stream_spread_over_seeds(
        ArraySlices(volume.hu),
        denoiser,
        condition,
        seeds=seeds,
        strength=strength,
        on_spread=keep,
        should_stop=should_stop,
    )
    return volume.with_hu(spread), summary


def stream_spread_over_seeds(
    source: SliceSource,
    denoiser: Denoiser,
    condition: Condition,
    *,
    seeds: Sequence[int],
    strength: float = 1.0,
    on_spread: OnResult | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> UncertaintySummary:
    """Measure the spread of a series slice by slice, without keeping it; see ``spread_over_seeds``.

    Each batch is denoised with all seeds before the next one, so a few batches are in memory.

    Args:
        source: Slices of the low-dose series.
        denoiser: Denoising method.
        condition: Acquisition facts of the scan.
        seeds: See ``spread_over_seeds``.
        strength: 0 to 1, blended in HU.
        on_spread: Called after every batch with (index of its first slice, standard deviation over
            seeds [slice, row, column] in HU, which is valid during the call).
        should_stop: Called for every batch before each seed.

    Raises:
        ValueError: Fewer than two different seeds, or a strength that is not within 0 to 1.
        ModelError: The model returned values that are not finite.
        Stopped: ``should_stop`` returned True.
    """
    if len(set(seeds)) < MIN_SEEDS:
        raise ValueError(f"The spread over seeds needs at least {MIN_SEEDS} different seeds.")
    runs = tuple(BatchWork(denoiser, condition, seed, strength) for seed in seeds)
    work, values = _SpreadWork(runs, should_stop), _SpreadHistogram()
    for part, spread in denoised_batches(shown_slices(source, denoiser.info.context_slices), work):
        values.add(spread[soft_tissue(source[part])])
        if on_spread is not None:
            on_spread(part.start, spread)
    return UncertaintySummary(len(seeds), values.percentile(50.0), values.percentile(99.0))


@dataclass(frozen=True)
class _SpreadWork:
    """Work on a batch: denoise it once per seed; the result is the standard deviation."""

    runs: tuple[BatchWork, ...]
    should_stop: Callable[[], bool] | None

    @property
    def denoiser(self) -> Denoiser:
        return self.runs[0].denoiser

    def run(self, hu: Tensor) -> tuple[Tensor, Tensor]:
        """Return the standard deviation, and whether it is finite, as every result then is."""
        mean, squares = torch.zeros_like(own_slices(hu)), torch.zeros_like(own_slices(hu))
        for count, one in enumerate(self.runs, start=1):
            check_stop(self.should_stop)
            result, _ = one.run(hu)
            change = result - mean  # Welford 1962: squares of large numbers would lose the spread
            mean += change / count
            squares += change * (result - mean)
        spread = torch.sqrt(squares / (len(self.runs) - 1))
        return spread, all_finite(spread)

    def fault(self) -> ModelError:
        return self.runs[0].fault()


class _SpreadHistogram:
    """Counts of rounded values: the sorted values of a series, in memory that does not grow.

    The bits of numbers that are not negative are in the order of the numbers.
    """

    def __init__(self) -> None:
        infinity = np.float32(np.inf).view(np.uint32)
        self._counts = np.zeros((int(infinity) >> ROUNDED_BITS) + 1, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count finite values [value] that are not negative."""
        half = np.uint32(1 << (ROUNDED_BITS - 1))
        bins = (values.view(np.uint32) + half) >> np.uint32(ROUNDED_BITS)
        self._counts += np.bincount(bins, minlength=len(self._counts))

    def percentile(self, percent: float) -> float | None:
        """Return a percentile of the rounded values; None without any."""
        ends = np.cumsum(self._counts)
        if not ends[-1]:
            return None
        place = percent / 100.0 * (int(ends[-1]) - 1)
        below = int(place)
        bins = np.searchsorted(ends, (below, min(below + 1, int(ends[-1]) - 1)), side="right")
        low, high = (bins.astype(np.uint32) << np.uint32(ROUNDED_BITS)).view(np.float32)
        return float(low) + (place - below) * (float(high) - float(low))

"""Determinism: the same bytes for a slice in every run, batch and company."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_check.models import PRECISIONS, Variant, variants
from benchmarks.gpu_check.part import Bench, Figure
from man_core import Condition, Volume, denoise_volume
from man_core.card import Precision

SEED = 7

Hu = NDArray[np.float32]


def figures(bench: Bench) -> Iterator[Figure]:
    """Yield the largest difference between results of the same slice; none is allowed."""
    volume = bench.volume(bench.preset.batches[-1])
    for variant in variants(bench):
        for precision in PRECISIONS:
            bench.budget.check()
            name = f"{variant.name}, {precision}"
            yield from _figures(bench, name, _Denoised(variant, precision, bench, volume))


class _Denoised:
    """Results of some slices of a volume, denoised as a series of their own."""

    def __init__(
        self, variant: Variant, precision: Precision, bench: Bench, volume: Volume
    ) -> None:
        self._denoiser = variant.load(bench.device, precision)
        self._volume = volume
        self.whole = self(range(len(volume.hu)))

    def __call__(self, chosen: Sequence[int]) -> Hu:
        volume = self._volume
        part = Volume(volume.hu[list(chosen)], volume.spacing_mm, volume.affine)
        result, _ = denoise_volume(part, self._denoiser, Condition(), seed=SEED, limits=None)
        return result.hu

    def difference(self, chosen: Sequence[int]) -> float:
        """Return the largest difference from the result in the whole series, HU."""
        return float(np.abs(self(chosen) - self.whole[list(chosen)]).max())


def _figures(bench: Bench, name: str, denoised: _Denoised) -> Iterator[Figure]:
    every = range(len(denoised.whole))
    yield _none(f"{name}: a second run", denoised.difference(every))
    for batch in bench.preset.batches[:-1]:
        bench.budget.check()
        late = every[-batch:]
        yield _none(f"{name}: {batch} late slices alone", denoised.difference(late))
    bench.budget.check()
    yield _none(f"{name}: in other company", denoised.difference(every[::-1]))
    yield _none(f"{name}: among fewer", denoised.difference(every[:: max(1, len(every) // 3)]))


def _none(name: str, difference: float) -> Figure:
    return Figure(name, difference, "HU", passed=difference == 0.0)

"""Agreement of the device with the CPU in HU, for each denoiser and arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.gpu_check.models import PRECISIONS, Variant, long_variant, missing_methods, variants
from benchmarks.gpu_check.part import Bench, Figure
from man_core import Condition, Denoiser

MAX_MEAN_HU = 1.0
"""Bar of the mean difference: the bias that the default model's quality gate allows per patient."""

SEED = 7


def figures(bench: Bench) -> Iterator[Figure]:
    """Yield maximum and mean of the absolute difference from float32 on the CPU."""
    hu = torch.from_numpy(bench.volume(bench.preset.compared).hu.copy())
    for variant in (*variants(bench), long_variant(bench)):
        yield from _compared(bench, variant, hu)
    for name, reason in missing_methods(bench):
        yield Figure(name, None, note=reason)


def _compared(bench: Bench, variant: Variant, hu: torch.Tensor) -> Iterator[Figure]:
    reference = _denoised(variant.load(torch.device("cpu"), PRECISIONS[0]), hu)
    for precision in PRECISIONS:
        bench.budget.check()
        found = _denoised(variant.load(bench.device, precision), hu)
        difference = (found - reference).abs()
        name = f"{variant.name}, {precision}"
        mean = float(difference.mean())
        yield Figure(f"{name}: maximum", float(difference.max()), "HU")
        yield Figure(f"{name}: mean", mean, "HU", passed=mean <= MAX_MEAN_HU)


def _denoised(denoiser: Denoiser, hu: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(SEED)
    return denoiser.denoise(hu.clone(), Condition(), generator)

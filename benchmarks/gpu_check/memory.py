"""Memory: the peak of a call beside what it was allowed, and less memory than it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.device_memory import forget_peak, peak_above
from benchmarks.gpu_check.models import PRECISIONS, variants
from benchmarks.gpu_check.part import Bench, Figure
from man_core import Condition, Denoiser, Volume, denoise_volume
from man_core.device import CUDA_MEMORY_SHARE

SEED = 7

KEPT_SHARE = 0.7
"""Share of a batch's memory that the ballast leaves free: enough for half a batch."""


def figures(bench: Bench) -> Iterator[Figure]:
    """Yield peaks and estimates of each denoiser, then the result with too little memory."""
    for variant in variants(bench):
        for precision in PRECISIONS:
            bench.budget.check()
            name = f"{variant.name}, {precision}"
            yield from _peak(bench, name, variant.load(bench.device, precision))
    bench.budget.check()
    yield from _out_of_memory(bench)


def _peak(bench: Bench, name: str, denoiser: Denoiser) -> Iterator[Figure]:
    size = bench.preset.size
    at_once = denoiser.slices_at_once(size, size)
    slices = min(at_once, bench.preset.max_memory_slices)
    hu = torch.from_numpy(bench.volume(slices).hu.copy())
    allowed = free_bytes(bench.device) * CUDA_MEMORY_SHARE * slices / at_once / 2**20
    before = forget_peak(bench.device)
    denoiser.denoise(hu, Condition(), torch.Generator().manual_seed(SEED))
    peak = peak_above(bench.device, before)
    yield Figure(f"{name}: slices at once", at_once)
    yield Figure(f"{name}: peak of {slices} slices", peak, "MiB")
    yield Figure(f"{name}: bytes a pixel", peak * 2**20 / (slices * size * size))
    if bench.device.type == "cuda":
        share = peak / allowed
        yield Figure(f"{name}: peak ÷ allowed", share, passed=share <= 1.0)
    else:
        yield Figure(f"{name}: peak ÷ allowed", None, note="a CPU has no estimate")


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a GPU; of a CPU 0, since nothing is to be filled up there."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


class Scarce:
    """A denoiser with small batches, whose memory gets short: on a CPU by order of the check.

    Args:
        denoiser: Does the work.
        at_once: Slices at once at most.
    """

    def __init__(self, denoiser: Denoiser, at_once: int) -> None:
        self._denoiser, self._at_once = denoiser, at_once
        self.short = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._denoiser, name)

    def slices_at_once(self, rows: int, columns: int) -> int:
        """Return a batch size that can be halved."""
        return self._at_once

    def denoise(self, hu: torch.Tensor, *arguments: object) -> torch.Tensor:
        """Denoise, as long as memory suffices for so many slices."""
        if self.short and len(hu) > self._at_once // 2:
            raise torch.OutOfMemoryError("Memory is short by order of the check.")
        return self._denoiser.denoise(hu, *arguments)  # type: ignore[arg-type]


def _out_of_memory(bench: Bench) -> Iterator[Figure]:
    """Denoise a series, and once more with a ballast put into memory after the first batch."""
    batch = max(2, bench.preset.batches[-2])
    denoiser = Scarce(variants(bench)[0].load(bench.device, PRECISIONS[0]), batch)
    series = bench.volume(3 * batch)
    before = forget_peak(bench.device)
    expected = _denoised(series, denoiser)
    kept = int(peak_above(bench.device, before) * 2**20 * KEPT_SHARE)
    ballast: list[torch.Tensor] = []
    done = [0]

    def on_progress(slices: int, _total: int) -> None:
        done.append(slices)
        if not ballast:
            ballast.append(_ballast(denoiser, bench.device, kept))

    found = _denoised(series, denoiser, on_progress)
    sizes = np.diff(done).tolist()
    halved = min(sizes[:-1], default=batch) < sizes[0]
    equal = bool(np.array_equal(found, expected))
    yield Figure("out of memory: batches", ", ".join(map(str, sizes)))
    note = "" if halved else "not forced: what was left was enough for a whole batch"
    yield Figure("out of memory: batch halved", "yes" if halved else "no", note=note)
    yield Figure("out of memory: same bytes", "yes" if equal else "no", passed=equal)


def _denoised(
    series: Volume, denoiser: Scarce, on_progress: Callable[[int, int], None] | None = None
) -> NDArray[np.float32]:
    result, _ = denoise_volume(
        series,
        denoiser,  # type: ignore[arg-type]
        Condition(),
        seed=SEED,
        limits=None,
        on_progress=on_progress,
    )
    return result.hu


def _ballast(denoiser: Scarce, device: torch.device, kept: int) -> torch.Tensor:
    """Fill the device's memory but for ``kept`` bytes."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    else:
        denoiser.short = True
    filled = max(0, free_bytes(device) - kept)
    return torch.empty(filled, dtype=torch.uint8, device=device)

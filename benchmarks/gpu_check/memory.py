"""Memory: the peak of a call beside what it was allowed, and less memory than it needs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.device_memory import forget_peak, peak_above
from benchmarks.gpu_check.models import PRECISIONS, variants
from benchmarks.gpu_check.part import Bench, Figure
from man_core import Condition, Denoiser, Volume, denoise_volume

SEED = 7

KEPT_SHARE = 0.7
"""Share of a batch's memory that the ballast leaves free: enough for half a batch."""

ESTIMATE_MARGIN = 1.5
"""Margin of the estimate: memory of one slice, times the slices, times this."""

MAX_MEMORY_SHARE = 0.5
"""Bar of the share of a device's memory for one batch, as other processes need some too."""


def figures(bench: Bench) -> Iterator[Figure]:
    """Yield peaks and estimates of each denoiser, then the result with too little memory."""
    for variant in variants(bench):
        for precision in PRECISIONS:
            bench.budget.check()
            name = f"{variant.name}, {precision}"
            yield from _peaks(bench, name, variant.load(bench.device, precision))
    bench.budget.check()
    yield from _out_of_memory(bench)


def _peaks(bench: Bench, name: str, denoiser: Denoiser) -> Iterator[Figure]:
    """Measure a call of one slice and one of as many as the denoiser takes at once."""
    size = bench.preset.size
    slices = min(denoiser.slices_at_once(size, size), bench.preset.max_memory_slices)
    _peak(bench, denoiser, 1)  # the first call loads the libraries
    one, whole = _peak(bench, denoiser, 1), _peak(bench, denoiser, slices)
    yield Figure(f"{name}: peak of 1 slice", one, "MiB")
    yield Figure(f"{name}: peak of {slices} slices at once", whole, "MiB")
    yield Figure(f"{name}: bytes a pixel", whole * 2**20 / (slices * size * size))
    if bench.device.type == "cuda":
        estimate = ESTIMATE_MARGIN * slices * one
        yield Figure(f"{name}: peak ÷ estimate", whole / estimate, passed=whole <= estimate)
        total = torch.cuda.get_device_properties(bench.device).total_memory / 2**20
        share = whole / total
        yield Figure(f"{name}: share of the device", share, passed=share <= MAX_MEMORY_SHARE)
    else:
        yield Figure(f"{name}: peak ÷ estimate", None, note="a CPU has no estimate")


def _peak(bench: Bench, denoiser: Denoiser, slices: int) -> float:
    hu = torch.from_numpy(bench.volume(slices).hu.copy())
    before = forget_peak(bench.device)
    denoiser.denoise(hu, Condition(), torch.Generator().manual_seed(SEED))
    return peak_above(bench.device, before)


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a GPU; of a CPU 0, since nothing is to be filled up there."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


class Scarce:
    """A denoiser with small batches, whose memory is short: on a CPU by order of the check.

    Args:
        denoiser: Does the work.
        at_once: Slices at once.
        enough_for: Slices for which memory is enough; None: it is the device's own.

    Attributes:
        sizes: Slices of each call that has been made.
    """

    def __init__(self, denoiser: Denoiser, at_once: int, enough_for: int | None = None) -> None:
        self._denoiser, self._at_once, self._enough_for = denoiser, at_once, enough_for
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._denoiser, name)

    def slices_at_once(self, rows: int, columns: int) -> int:
        """Return a batch size that can be halved."""
        return self._at_once

    def denoise(self, hu: torch.Tensor, *arguments: object) -> torch.Tensor:
        """Denoise, as long as memory suffices for so many slices."""
        self.sizes.append(len(hu))
        if self._enough_for is not None and len(hu) > self._enough_for:
            raise torch.OutOfMemoryError("Memory is short by order of the check.")
        return self._denoiser.denoise(hu, *arguments)  # type: ignore[arg-type]


def _out_of_memory(bench: Bench) -> Iterator[Figure]:
    """Denoise with a ballast in memory, and with as small batches as that made necessary."""
    denoiser = variants(bench)[0].load(bench.device, PRECISIONS[0])
    batch = max(2, bench.preset.batches[-2])
    series = bench.volume(3 * batch)
    kept = int(_peak(bench, denoiser, batch) * 2**20 * KEPT_SHARE)
    short = batch // 2 if bench.device.type == "cpu" else None
    pressed = Scarce(denoiser, batch, enough_for=short)
    ballast = _ballast(bench.device, kept)
    found = _denoised(series, pressed)
    del ballast
    smallest = min(pressed.sizes)
    expected = _denoised(series, Scarce(denoiser, smallest))
    whole = _denoised(series, Scarce(denoiser, batch))
    equal = bool(np.array_equal(found, expected))
    halved = smallest < batch
    yield Figure("out of memory: slices of the calls", ", ".join(map(str, pressed.sizes)))
    note = "" if halved else "not forced: what was left was enough for a whole batch"
    yield Figure("out of memory: batch halved", "yes" if halved else "no", "", halved, note)
    yield Figure("out of memory: as with such batches", "yes" if equal else "no", passed=equal)
    difference = float(np.abs(found - whole).max())
    yield Figure("out of memory: from whole batches", difference, "HU")


def _denoised(series: Volume, denoiser: Scarce) -> NDArray[np.float32]:
    result, _ = denoise_volume(
        series,
        denoiser,  # type: ignore[arg-type]
        Condition(),
        seed=SEED,
        limits=None,
    )
    return result.hu


def _ballast(device: torch.device, kept: int) -> torch.Tensor:
    """Fill the device's memory but for ``kept`` bytes."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    filled = max(0, free_bytes(device) - kept)
    return torch.empty(filled, dtype=torch.uint8, device=device)

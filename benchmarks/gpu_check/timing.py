"""Time of a slice: denoisers at several batch sizes, a DDPM in pixels, a series HU to HU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.gpu_check.models import (
    PRECISIONS,
    Variant,
    long_variant,
    missing_methods,
    variants,
)
from benchmarks.gpu_check.part import Bench, Figure
from benchmarks.gpu_check.targets import ALONE, DDPM, GUARD, HU_TO_HU
from benchmarks.machine import median
from benchmarks.networks import DDPM_STEPS, Place, ddpm
from man_core import Condition, denoise_volume, find_model
from man_core.batches import BatchWork, denoised_batches
from man_core.card import Precision

SEED = 7


def figures(bench: Bench) -> Iterator[Figure]:
    """Yield milliseconds a slice; the series comes first, as its figures have bars."""
    own = find_model("man")[0].precision
    yield from _series(bench, HU_TO_HU, own)
    yield from _ddpm(bench)
    for variant in variants(bench):
        for precision in PRECISIONS:
            yield from _batches(bench, variant, precision)
    yield from _batches(bench, long_variant(bench), own)
    for precision in PRECISIONS:
        if precision != own:
            yield from _series(bench, f"{HU_TO_HU}, {precision}", precision)
    for name, reason in missing_methods(bench):
        yield Figure(name, None, note=reason)


def _series(bench: Bench, name: str, precision: Precision) -> Iterator[Figure]:
    """Denoise a series with its guard by the function that the node calls."""
    volume = bench.volume(bench.preset.series)
    denoiser = Variant("MAN", "man").load(bench.device, precision)
    seconds, guard = [], []
    for _ in range(bench.preset.rounds):
        _, report = denoise_volume(volume, denoiser, Condition(), seed=SEED)
        seconds.append(report.seconds)
        guard.append(report.guard_seconds)
        bench.budget.check()
    slices = len(volume.hu)
    yield Figure(name, 1000 * median(seconds) / slices, "ms a slice", note=precision)
    if name == HU_TO_HU:
        yield Figure(GUARD, 1000 * median(guard) / slices, "ms a slice")
        # A denoiser faster than its guard waits for it: only alone does it show its own time.
        work = BatchWork(denoiser, Condition(), SEED)
        alone = _median_seconds(
            bench, lambda: sum(len(hu) for _, hu in denoised_batches(volume.hu, work))
        )
        yield Figure(ALONE, 1000 * alone / slices, "ms a slice", note=precision)


def _ddpm(bench: Bench) -> Iterator[Figure]:
    """Run a few steps of the DDPM; all of its steps take the same time."""
    preset = bench.preset
    timed = preset.ddpm_steps
    network = ddpm(Place(bench.device, PRECISIONS[0], preset.size), timed, preset.ddpm)
    whole = []
    for batch in preset.ddpm_batches:
        bench.budget.check()
        network.run(batch, preset.size)
        seconds = _median_seconds(bench, lambda n=batch: network.run(n, preset.size))  # type: ignore[misc]
        whole.append(1000 * seconds / network.share / batch)
        note = f"{timed} of {DDPM_STEPS} steps run, their time times {DDPM_STEPS / timed:g}"
        yield Figure(f"DDPM, {DDPM_STEPS} steps, batch {batch}", whole[-1], "ms a slice", note=note)
    yield Figure(DDPM, min(whole), "ms a slice")


def _batches(bench: Bench, variant: Variant, precision: Precision) -> Iterator[Figure]:
    denoiser = variant.load(bench.device, precision)
    hu = torch.from_numpy(bench.volume(bench.preset.batches[-1]).hu.copy())

    def run(batch: int) -> None:
        generator = torch.Generator().manual_seed(SEED)
        denoiser.denoise(hu[:batch].clone(), Condition(), generator)

    for batch in bench.preset.batches:
        bench.budget.check()
        run(batch)  # kernels are chosen by size
        seconds = _median_seconds(bench, lambda n=batch: run(n))  # type: ignore[misc]
        name = f"{variant.name}, {precision}, batch {batch}"
        yield Figure(name, 1000 * seconds / batch, "ms a slice")


def _median_seconds(bench: Bench, run: Callable[[], object]) -> float:
    """Return the median time of a call, which gives its result on the CPU."""
    seconds = []
    for _ in range(bench.preset.rounds):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
        bench.budget.check()
    return median(seconds)

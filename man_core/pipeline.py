"""Denoising of a series in batches that fit in memory, with a report."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from man_core.batches import BatchWork, check_stop, denoised_batches
from man_core.beyond_padding import shown_slices
from man_core.condition import Condition
from man_core.context import Neighbours
from man_core.denoise_report import DenoiseReport
from man_core.denoiser import Denoiser
from man_core.guard import Check, Finding, GuardLimits
from man_core.guard.watch import Watch
from man_core.slices import ArraySlices, SliceSource
from man_core.volume import Volume

OnResult = Callable[[int, NDArray[np.float32]], None]
"""Callback after every batch with (index of its first slice, result [slice, row, column] in HU).

The result is final."""


def denoise_volume(
    volume: Volume,
    denoiser: Denoiser,
    condition: Condition,
    *,
    seed: int,
    strength: float = 1.0,
    padding: NDArray[np.bool_] | None = None,
    neighbours: Neighbours | None = None,
    limits: GuardLimits | None = GuardLimits(),  # noqa: B008 - frozen
    on_result: OnResult | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[Volume, DenoiseReport]:
    """Denoise a volume and check whether the result is plausible.

    Args:
        volume: Low-dose series.
        denoiser: Denoising method.
        condition: Acquisition facts of the scan, and the dose gain wanted.
        seed: See ``series_seed``; every batch starts from it, and a slice gets the same bits in
            whatever company.
        strength: 0 to 1, blended in HU.
        padding: Mask of pixels without measurement [slice, row, column]; there the result is the
            source and the guard is not applied, and the denoiser is shown tissue that the padding
            cuts off (``continued_tissue``). None: no padding.
        neighbours: Slices beside each, for a model that sees them (``neighbours_of``). None: all
            slices of the volume lie beside each other.
        limits: Limits of the guard, whose findings the report contains; None turns it off.
        on_result: See ``OnResult``; its exceptions propagate.
        on_progress: Callback with (slices done, total slices).
        should_stop: Called before every batch and between the sampling steps of one.

    Returns:
        The result with the geometry of the source, and a report.

    Raises:
        ValueError: The strength is not within 0 to 1.
        ModelError: The model returned values that are not finite, or cannot be told that dose gain.
        Stopped: ``should_stop`` returned True.

    Example:
        >>> from man_core import Condition, denoise_volume, load_denoiser, phantom_series
        >>> volume = phantom_series("abdomen", slices=2, size=64)
        >>> identity = load_denoiser("identity")
        >>> result, report = denoise_volume(volume, identity, Condition(), seed=1)
        >>> result.shape, report.model, str(report.verdict)
        ((2, 64, 64), 'identity', 'ok')
    """
    hu = np.empty_like(volume.hu)

    def keep(first: int, result: NDArray[np.float32]) -> None:
        hu[first : first + len(result)] = result
        if on_result is not None:
            on_result(first, result)

    report = denoise_stream(
        ArraySlices(volume.hu, padding, neighbours),
        denoiser,
        condition,
        pixel_mm=volume.spacing_mm[1],
        seed=seed,
        strength=strength,
        limits=limits,
        on_result=keep,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    return volume.with_hu(hu), report


def denoise_stream(
    source: SliceSource,
    denoiser: Denoiser,
    condition: Condition,
    *,
    pixel_mm: float,
    seed: int,
    strength: float = 1.0,
    limits: GuardLimits | None = GuardLimits(),  # noqa: B008 - frozen
    on_result: OnResult | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> DenoiseReport:
    """Denoise a series slice by slice, without keeping it; see ``denoise_volume``.

    First the slices by which the noise is measured are read (``noise.sampled_slices``), then all in
    order. A thread measures results while later slices are denoised; a few batches are in memory.
    A model that sees neighbours gets those of a batch with it: two slices more than the batch.

    Args:
        source: Slices of the low-dose series, with their padding.
        denoiser: Denoising method.
        condition: Acquisition facts of the scan, and the dose gain wanted.
        pixel_mm: Side of a pixel.
        seed: See ``denoise_volume``.
        strength: 0 to 1, blended in HU.
        limits: Limits of the guard; None turns it off.
        on_result: See ``OnResult``; its exceptions propagate.
        on_progress: Callback with (slices done, total slices).
        should_stop: Called before every batch and between the sampling steps of one.

    Raises:
        ValueError: The strength is not within 0 to 1.
        ModelError: The model returned values that are not finite, or cannot be told that dose gain.
        Stopped: ``should_stop`` returned True.
    """
    check_stop(should_stop)
    gain = denoiser.info.dose_gain_for(condition.dose_gain)
    work = BatchWork(denoiser, condition, seed, strength, should_stop)
    with (
        closing(_results(source, work, should_stop)) as results,  # an error frees its memory
        Watch(source, pixel_mm, limits, denoiser.device) as watch,
    ):
        started = time.monotonic()
        for part, hu, result in results:
            watch.put(part.start, hu, result, source.padding(part))
            if on_result is not None:
                on_result(part.start, result)
            if on_progress is not None:
                on_progress(part.stop, len(source))
        seconds = time.monotonic() - started
        settings = _Settings(denoiser, strength, gain, seed, len(source), seconds)
        return _report(watch, settings)


def _results(
    source: SliceSource, work: BatchWork, should_stop: Callable[[], bool] | None
) -> Generator[tuple[slice, NDArray[np.float32], NDArray[np.float32]]]:
    """Yield the slices of each batch, their source and their final result in HU."""
    shown = shown_slices(source, work.denoiser.info.context_slices)
    for part, result in denoised_batches(shown, work, should_stop):
        hu, padding, final = source[part], source.padding(part), np.array(result)
        if padding is not None:
            np.copyto(final, hu, where=padding)
        yield part, hu, final


@dataclass(frozen=True)
class _Settings:
    """Settings, length and duration of a run."""

    denoiser: Denoiser
    strength: float
    dose_gain: float | None
    seed: int
    slices: int
    seconds: float


def _report(watch: Watch, settings: _Settings) -> DenoiseReport:
    before, (after, findings) = watch.before, watch.finish()
    card = settings.denoiser.info
    return DenoiseReport(
        model=card.name,
        version=card.version,
        digest=card.digest,
        weights_sha256=card.weights_sha256,
        device=settings.denoiser.device,
        steps=settings.denoiser.steps,
        strength=settings.strength,
        dose_gain=settings.dose_gain,
        seed=settings.seed,
        slices=settings.slices,
        seconds=settings.seconds,
        noise_before_hu=_finite(before.std_hu),
        noise_after_hu=_finite(after.std_hu),
        mean_shift_hu=_mean_shift(findings),
        guard_seconds=watch.seconds,
        findings=findings,
    )


def _mean_shift(findings: tuple[Finding, ...]) -> float | None:
    shifts = [one.value for one in findings if one.check is Check.DRIFT_SOFT_TISSUE]
    return shifts[0] if shifts else None


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None

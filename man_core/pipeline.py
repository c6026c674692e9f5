"""Denoising of a series in batches that fit in memory, with a report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from man_core.batches import BatchWork, denoised_batches
from man_core.condition import Condition
from man_core.denoiser import Denoiser
from man_core.guard import Check, Finding, GuardLimits, Verdict, worst
from man_core.guard.inspection import inspect
from man_core.noise import estimate_noise_and_texture
from man_core.volume import Volume

OnResult = Callable[[int, NDArray[np.float32]], None]
"""Callback after every batch with (index of its first slice, result [slice, row, column] in HU).

The result is final."""


@dataclass(frozen=True)
class DenoiseReport:
    """Settings, noise and findings of one denoised series; contains no identity.

    Attributes:
        model: Registry name.
        version: Version of the weights.
        digest: ``ModelCard.digest``.
        weights_sha256: Hash of the weights.
        device: Device it ran on.
        steps: Sampling steps.
        strength: 0 leaves the source, 1 is the result of the model; blended in HU.
        seed: Seed of the starting noise.
        slices: Number of slices denoised.
        seconds: Time in the denoiser.
        noise_before_hu: Noise in soft tissue of the source, HU; None without soft tissue.
        noise_after_hu: The same in the result.
        mean_shift_hu: Mean of result minus source in soft tissue, HU; None without soft tissue or
            with the guard off.
        guard_seconds: Time in the guard.
        findings: Findings of the guard; empty when it is off.
    """

    model: str
    version: str
    digest: str
    weights_sha256: str
    device: str
    steps: int
    strength: float
    seed: int
    slices: int
    seconds: float
    noise_before_hu: float | None
    noise_after_hu: float | None
    mean_shift_hu: float | None
    guard_seconds: float = 0.0
    findings: tuple[Finding, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst of the findings."""
        return worst(self.findings)

    @property
    def objections(self) -> tuple[Finding, ...]:
        """The findings that are not OK, the worst first."""
        bad = [finding for finding in self.findings if finding.verdict is not Verdict.OK]
        return tuple(sorted(bad, key=lambda finding: finding.verdict is not Verdict.BLOCK))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "verdict": self.verdict if self.findings else None}


def denoise_volume(
    volume: Volume,
    denoiser: Denoiser,
    condition: Condition,
    *,
    seed: int,
    strength: float = 1.0,
    padding: NDArray[np.bool_] | None = None,
    limits: GuardLimits | None = GuardLimits(),  # noqa: B008 - frozen
    on_result: OnResult | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[Volume, DenoiseReport]:
    """Denoise a volume and check whether the result is plausible.

    Args:
        volume: Low-dose series.
        denoiser: Denoising method.
        condition: Acquisition facts of the scan.
        seed: See ``series_seed``; every batch starts from it, and a slice gets the same bits in
            whatever company.
        strength: 0 to 1, blended in HU.
        padding: Mask of pixels without measurement [slice, row, column]; there the result is the
            source and the guard is not applied. None: no padding.
        limits: Limits of the guard, whose findings the report contains; None turns it off.
        on_result: See ``OnResult``; its exceptions propagate.
        on_progress: Callback with (slices done, total slices).
        should_stop: Called before every batch.

    Returns:
        The result with the geometry of the source, and a report.

    Raises:
        ValueError: The strength is not within 0 to 1.
        ModelError: The model returned values that are not finite.
        Stopped: ``should_stop`` returned True.

    Example:
        >>> from man_core import Condition, denoise_volume, load_denoiser, phantom_series
        >>> volume = phantom_series("abdomen", slices=2, size=64)
        >>> identity = load_denoiser("identity")
        >>> result, report = denoise_volume(volume, identity, Condition(), seed=1)
        >>> result.shape, report.model, str(report.verdict)
        ((2, 64, 64), 'identity', 'ok')
    """
    started = time.monotonic()
    hu = denoise_slices(
        volume.hu,
        denoiser,
        condition,
        seed=seed,
        strength=strength,
        padding=padding,
        on_result=on_result,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    settings = _Settings(denoiser, strength, seed, time.monotonic() - started)
    denoised = volume.with_hu(hu)
    return denoised, _report(volume, denoised, settings, limits, padding)


def denoise_slices(
    source: NDArray[np.float32],
    denoiser: Denoiser,
    condition: Condition,
    *,
    seed: int,
    strength: float = 1.0,
    padding: NDArray[np.bool_] | None = None,
    on_result: OnResult | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> NDArray[np.float32]:
    """Denoise HU [slice, row, column] without guard and report; see ``denoise_volume``."""
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"The strength must be within 0 to 1, got {strength}.")
    hu = np.empty_like(source)
    work = BatchWork(denoiser, condition, seed, strength)
    for part, result in denoised_batches(source, work, should_stop):
        hu[part] = result
        if padding is not None:
            np.copyto(hu[part], source[part], where=padding[part])
        if on_result is not None:
            on_result(part.start, hu[part])
        if on_progress is not None:
            on_progress(part.stop, len(hu))
    return hu


@dataclass(frozen=True)
class _Settings:
    """Settings and duration of a run."""

    denoiser: Denoiser
    strength: float
    seed: int
    seconds: float


def _report(
    source: Volume,
    denoised: Volume,
    settings: _Settings,
    limits: GuardLimits | None,
    padding: NDArray[np.bool_] | None,
) -> DenoiseReport:
    started = time.monotonic()
    before = estimate_noise_and_texture(source.hu)
    after = estimate_noise_and_texture(denoised.hu)
    findings: tuple[Finding, ...] = ()
    if limits is not None:
        findings = inspect(source, denoised.hu, limits, before=before, after=after, padding=padding)
    card = settings.denoiser.info
    return DenoiseReport(
        model=card.name,
        version=card.version,
        digest=card.digest,
        weights_sha256=card.weights_sha256,
        device=settings.denoiser.device,
        steps=settings.denoiser.steps,
        strength=settings.strength,
        seed=settings.seed,
        slices=len(source.hu),
        seconds=settings.seconds,
        noise_before_hu=_finite(before.std_hu),
        noise_after_hu=_finite(after.std_hu),
        mean_shift_hu=_mean_shift(findings),
        guard_seconds=time.monotonic() - started,
        findings=findings,
    )


def _mean_shift(findings: tuple[Finding, ...]) -> float | None:
    shifts = [one.value for one in findings if one.check is Check.DRIFT_SOFT_TISSUE]
    return shifts[0] if shifts else None


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None

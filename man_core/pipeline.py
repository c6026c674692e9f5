"""A series through a denoiser, in batches that fit memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from man_core.condition import Condition
from man_core.denoiser import Denoiser
from man_core.errors import ModelError, Stopped
from man_core.guard import Check, Finding, GuardLimits, Verdict, worst
from man_core.guard.inspection import inspect
from man_core.noise import estimate_noise_and_texture
from man_core.volume import Volume

OnResult = Callable[[int, NDArray[np.float32]], None]
"""Called after every batch with (index of its first slice, its result [slice, row, column] in HU),
which does not change any more."""


@dataclass(frozen=True)
class DenoiseReport:
    """What was done to a series; holds no identity.

    Attributes:
        model: Registry name.
        version: Version of the weights.
        digest: ``ModelCard.digest``.
        weights_sha256: Hash of the weights.
        device: Where it ran.
        steps: Sampling steps.
        strength: 0 leaves the source, 1 is the model's own result; blended in HU.
        seed: Seed of the starting noise.
        slices: Slices denoised.
        seconds: Time in the denoiser.
        noise_before_hu: Noise in soft tissue of the source, HU; None where there is no soft tissue.
        noise_after_hu: The same in the result.
        mean_shift_hu: Mean of result minus source in soft tissue, HU; None where there is none, or
            the guard is off.
        guard_seconds: Time in the guard.
        findings: What the guard found; empty where it is off.
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
        """Plain values for JSON."""
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
    """Denoise a volume, and look whether the result is plausible.

    Args:
        volume: The low-dose series.
        denoiser: A method ready to run.
        condition: What is known of the scan.
        seed: See ``series_seed``; every batch starts from it. Arithmetic may still round otherwise
            in batches of another size.
        strength: 0 to 1, blended in HU.
        padding: Where nothing was measured [slice, row, column]: the result is the source there,
            and the guard does not look. None: nowhere.
        limits: Of the guard, whose findings stand in the report; None turns it off.
        on_result: See ``OnResult``; what it raises ends the work.
        on_progress: Called with (slices done, slices in all).
        should_stop: Asked before every batch.

    Returns:
        The result with the source's geometry, and a report.

    Raises:
        ValueError: The strength is not within 0 to 1.
        ModelError: The model gave values that are not finite.
        Stopped: ``should_stop`` said so.
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
    seconds = time.monotonic() - started
    denoised = volume.with_hu(hu)
    settings = _Settings(denoiser, strength, seed, seconds)
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
    """Denoise HU [slice, row, column] and nothing more; see ``denoise_volume``."""
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"strength must be within 0 to 1, got {strength}")
    hu = np.empty_like(source)
    done, step = 0, denoiser.slices_at_once(*source.shape[1:])
    while done < len(hu):
        if should_stop is not None and should_stop():
            raise Stopped
        part = slice(done, min(done + step, len(hu)))
        try:
            result = _run(source[part], denoiser, condition, seed)
        except torch.OutOfMemoryError:
            if step == 1:
                raise
            step = _smaller(step)
            continue
        hu[part] = _blend(source[part], result, strength)
        if padding is not None:
            np.copyto(hu[part], source[part], where=padding[part])
        if on_result is not None:
            on_result(done, hu[part])
        done = part.stop
        if on_progress is not None:
            on_progress(done, len(hu))
    return hu


def _smaller(step: int) -> int:
    """Half the batch: somebody else took memory of the device since it was asked how much fits."""
    torch.cuda.empty_cache()
    return step // 2


def _run(
    hu: NDArray[np.float32], denoiser: Denoiser, condition: Condition, seed: int
) -> NDArray[np.float32]:
    generator = torch.Generator().manual_seed(seed)
    result = denoiser.denoise(torch.from_numpy(hu.copy()), condition, generator).numpy()
    if result.shape != hu.shape or not np.isfinite(result).all():
        raise ModelError(
            f"model {denoiser.info.name!r} gave values that are not finite; nothing was written"
        )
    return result


def _blend(
    source: NDArray[np.float32], result: NDArray[np.float32], strength: float
) -> NDArray[np.float32]:
    return result if strength == 1.0 else source + np.float32(strength) * (result - source)


@dataclass(frozen=True)
class _Settings:
    """How a result was made."""

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

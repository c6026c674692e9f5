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
from man_core.noise import noise_hu
from man_core.volume import Volume

SOFT_TISSUE_HU = (-50.0, 150.0)
"""Voxels of the source between these count for the mean shift."""

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
        mean_shift_hu: Mean of result minus source in soft tissue, HU; None where there is none.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def denoise_volume(
    volume: Volume,
    denoiser: Denoiser,
    condition: Condition,
    *,
    seed: int,
    strength: float = 1.0,
    on_result: OnResult | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[Volume, DenoiseReport]:
    """Denoise a volume.

    Args:
        volume: The low-dose series.
        denoiser: A method ready to run.
        condition: What is known of the scan.
        seed: See ``series_seed``; every batch starts from it. Arithmetic may still round otherwise
            in batches of another size.
        strength: 0 to 1, blended in HU.
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
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"strength must be within 0 to 1, got {strength}")
    started = time.monotonic()
    hu = np.empty_like(volume.hu)
    done, step = 0, denoiser.slices_at_once(*volume.shape[1:])
    while done < len(hu):
        if should_stop is not None and should_stop():
            raise Stopped
        part = slice(done, min(done + step, len(hu)))
        try:
            result = _run(volume.hu[part], denoiser, condition, seed)
        except torch.OutOfMemoryError:
            if step == 1:
                raise
            step = _smaller(step)
            continue
        hu[part] = _blend(volume.hu[part], result, strength)
        if on_result is not None:
            on_result(done, hu[part])
        done = part.stop
        if on_progress is not None:
            on_progress(done, len(hu))
    seconds = time.monotonic() - started
    return volume.with_hu(hu), _report(volume.hu, hu, denoiser, strength, seed, seconds)


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


def _report(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    denoiser: Denoiser,
    strength: float,
    seed: int,
    seconds: float,
) -> DenoiseReport:
    card = denoiser.info
    soft = (before > SOFT_TISSUE_HU[0]) & (before < SOFT_TISSUE_HU[1])
    return DenoiseReport(
        model=card.name,
        version=card.version,
        digest=card.digest,
        weights_sha256=card.weights_sha256,
        device=denoiser.device,
        steps=denoiser.steps,
        strength=strength,
        seed=seed,
        slices=len(before),
        seconds=seconds,
        noise_before_hu=_finite(noise_hu(before)),
        noise_after_hu=_finite(noise_hu(after)),
        mean_shift_hu=_finite(float((after - before)[soft].mean())) if soft.any() else None,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None

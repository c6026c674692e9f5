"""Inspection of a denoised volume against its source, at run time and without ground truth."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from man_core.guard.limits import GuardLimits, Limit
from man_core.guard.statistics import ResidualStatistics, residual_statistics
from man_core.guard.verdict import Check, Finding, Verdict
from man_core.noise import NoiseTexture, estimate_noise_and_texture
from man_core.volume import Volume

STANDARD_ERRORS = 3.0
"""Allowance for the mean of few noisy voxels, in standard errors."""

MIN_NOISE_HU = 2.0
"""Noise below which a source, such as a phantom, has no noise whose removal could be judged."""

NOT_MEASURABLE = "the series holds too little to measure it"


def inspect(
    source: Volume,
    hu: NDArray[np.float32],
    limits: GuardLimits = GuardLimits(),  # noqa: B008 - frozen
    *,
    before: NoiseTexture | None = None,
    after: NoiseTexture | None = None,
    padding: NDArray[np.bool_] | None = None,
) -> tuple[Finding, ...]:
    """Judge a result.

    Args:
        source: Volume that was denoised.
        hu: Result [slice, row, column], HU.
        limits: Limits above which it is flagged or blocked.
        before: Noise of the source, if known already.
        after: Noise of the result, if known already.
        padding: Mask of pixels without measurement [slice, row, column], which are ignored. None:
            no padding.

    Returns:
        One finding per check; only the failed one if the result has another shape or is not
        finite.
    """
    if hu.shape != source.shape:
        text = f"the result is of shape {hu.shape}, its source of {source.shape}"
        return (Finding(Check.SHAPE, Verdict.BLOCK, None, None, "", text),)
    bad = int(hu.size - np.isfinite(hu).sum())
    if bad:
        text = f"{bad} voxels of the result are not finite"
        return (Finding(Check.FINITE, Verdict.BLOCK, float(bad), 0.0, "voxels", text),)
    before = before or estimate_noise_and_texture(source.hu)
    after = after or estimate_noise_and_texture(hu)
    statistics = residual_statistics(source.hu, hu, source.spacing_mm[1], before, padding)
    return (
        Finding(Check.SHAPE, Verdict.OK, None, None, "", "the result has its source's shape"),
        Finding(Check.FINITE, Verdict.OK, 0.0, 0.0, "voxels", "all voxels are finite"),
        _overshoot(source.hu, hu, limits.overshoot),
        *_noise(before, after, limits),
        *_drift(statistics, limits),
        _edges(Check.FAINT_EDGES, statistics.faint_blur_px2, limits.faint_edges),
        _edges(Check.STRONG_EDGES, statistics.strong_blur_px2, limits.strong_edges),
        _coherence(statistics, limits.coherence),
    )


def _overshoot(source: NDArray[np.float32], hu: NDArray[np.float32], limit: Limit) -> Finding:
    over = max(float(hu.max() - source.max()), float(source.min() - hu.min()), 0.0)
    return _judged(
        Check.OVERSHOOT, limit, over, "HU", f"voxels leave the range of the source by {over:.0f} HU"
    )


def _noise(before: NoiseTexture, after: NoiseTexture, limits: GuardLimits) -> Iterator[Finding]:
    if not before.patches or before.std_hu < MIN_NOISE_HU:
        yield _unmeasured(Check.NOISE, limits.noise)
        yield _unmeasured(Check.PLASTIC, limits.plastic)
        return
    ratio = after.std_hu / before.std_hu
    text = f"noise in soft tissue is {before.std_hu:.1f} HU before and {after.std_hu:.1f} after"
    yield _judged(Check.NOISE, limits.noise, ratio, "", text)
    yield _judged(Check.PLASTIC, limits.plastic, 1.0 / max(ratio, 1e-3), "", text)


def _drift(statistics: ResidualStatistics, limits: GuardLimits) -> Iterator[Finding]:
    for tissue, drift in statistics.drift.items():
        check = Check(f"drift_{tissue.replace(' ', '_')}")
        limit: Limit = getattr(limits, check.value)
        if drift is None:
            yield _unmeasured(check, limit, "HU")
            continue
        allowance = STANDARD_ERRORS * drift.error_hu
        text = f"the mean of {tissue} shifts by {drift.hu:+.1f} HU"
        yield _judged(check, limit, drift.hu, "HU", text, allowance)


def _edges(check: Check, variance: float | None, limit: Limit) -> Finding:
    if variance is None:
        return _unmeasured(check, limit, "pixels")
    sigma = math.copysign(math.sqrt(abs(variance)), variance)
    how = "blurred" if sigma >= 0.0 else "sharpened"
    text = f"{check.replace('_', ' ')} are {how} as by a Gaussian of {abs(sigma):.2f} pixels"
    return _judged(check, limit, sigma, "pixels", text)


def _coherence(statistics: ResidualStatistics, limit: Limit) -> Finding:
    blob = statistics.blob
    if blob is None:
        return _unmeasured(Check.COHERENCE, limit)
    what = "lower" if blob.hu > 0.0 else "higher"
    text = (
        f"in slice {blob.slice_index + 1} a spot of 5 mm is {abs(blob.hu):.0f} HU {what} than in "
        f"the source, {blob.ratio:.1f} times what noise explains"
    )
    return _judged(Check.COHERENCE, limit, blob.ratio, "", text)


def _judged(
    check: Check, limit: Limit, value: float, unit: str, text: str, allowance: float = 0.0
) -> Finding:
    verdict, crossed = limit.judge(value, allowance)
    bound = f" (limit {crossed:.3g}{' ' if unit else ''}{unit})"
    return Finding(check, verdict, value, crossed, unit, text + bound)


def _unmeasured(check: Check, limit: Limit, unit: str = "") -> Finding:
    return Finding(check, Verdict.OK, None, limit.flag, unit, NOT_MEASURABLE)

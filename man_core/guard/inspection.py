"""Inspection of a denoised volume against its source, at run time and without ground truth."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from man_core.guard.limits import GuardLimits, Limit
from man_core.guard.statistics import ResidualStatistics, ResidualSums
from man_core.guard.verdict import Check, Finding, Verdict
from man_core.noise import NoiseTexture, estimate_noise_and_texture
from man_core.volume import Volume

STANDARD_ERRORS = 3.0
"""Allowance for the mean of few noisy voxels, in standard errors."""

MIN_NOISE_HU = 2.0
"""Noise below which a source, such as a phantom, has no noise whose removal could be judged."""

_EMPTY_HU = (math.inf, -math.inf)
"""Lowest and highest value of no voxels."""

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
    inspection = Inspection(
        source.spacing_mm[1], before or estimate_noise_and_texture(source.hu), limits
    )
    inspection.add(0, source.hu, hu, padding)
    return inspection.findings(after or estimate_noise_and_texture(hu))


class Inspection:
    """Inspection of a result that arrives in parts; equal to ``inspect`` of the whole.

    Args:
        pixel_mm: Side of a pixel.
        before: Noise of the source.
        limits: Limits above which the result is flagged or blocked.
        device: Device of the arithmetic.
    """

    def __init__(
        self,
        pixel_mm: float,
        before: NoiseTexture,
        limits: GuardLimits,
        device: str = "cpu",
    ) -> None:
        self._before, self._limits = before, limits
        self._sums = ResidualSums(pixel_mm, before, device)
        self._bad = 0
        self._source_hu, self._result_hu = _EMPTY_HU, _EMPTY_HU

    def add(
        self,
        first: int,
        source: NDArray[np.float32],
        result: NDArray[np.float32],
        padding: NDArray[np.bool_] | None = None,
    ) -> None:
        """Take slices.

        Args:
            first: Index of the first of them in the series.
            source: HU [slice, row, column].
            result: HU, of the same shape.
            padding: Mask of pixels without measurement, of the same shape. None: no padding.
        """
        self._source_hu = _widened(self._source_hu, source)
        self._result_hu = _widened(self._result_hu, result)
        if not all(map(math.isfinite, self._result_hu)):  # what follows would tell nothing
            self._bad += int(result.size - np.isfinite(result).sum())
        else:
            self._sums.add(first, source, result, padding)

    def findings(self, after: NoiseTexture) -> tuple[Finding, ...]:
        """Judge the slices so far.

        Args:
            after: Noise of the result.

        Returns:
            One finding per check; only the failed one if the result is not finite.
        """
        if self._bad:
            text = f"{self._bad} voxels of the result are not finite"
            return (Finding(Check.FINITE, Verdict.BLOCK, float(self._bad), 0.0, "voxels", text),)
        limits, statistics = self._limits, self._sums.statistics()
        return (
            Finding(Check.SHAPE, Verdict.OK, None, None, "", "the result has its source's shape"),
            Finding(Check.FINITE, Verdict.OK, 0.0, 0.0, "voxels", "all voxels are finite"),
            self._overshoot(limits.overshoot),
            *_noise(self._before, after, limits),
            *_drift(statistics, limits),
            _edges(Check.FAINT_EDGES, statistics.faint_blur_px2, limits.faint_edges),
            _edges(Check.STRONG_EDGES, statistics.strong_blur_px2, limits.strong_edges),
            _coherence(statistics, limits.coherence),
        )

    def _overshoot(self, limit: Limit) -> Finding:
        (lowest, highest), (low, high) = self._source_hu, self._result_hu
        over = max(high - highest, lowest - low, 0.0)
        text = f"voxels leave the range of the source by {over:.0f} HU"
        return _judged(Check.OVERSHOOT, limit, over, "HU", text)


def _widened(range_hu: tuple[float, float], hu: NDArray[np.float32]) -> tuple[float, float]:
    """Return the range that also holds these HU; not finite where any of them is not."""
    low, high = range_hu
    return float(np.minimum(low, hu.min())), float(np.maximum(high, hu.max()))


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

"""Report of one denoised series; contains no identity."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from man_core.guard import Finding, Verdict, worst


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
        dose_gain: Noise that was left, as if from so many times the dose; None: the model is not
            told it.
        seed: Seed of the starting noise.
        slices: Number of slices denoised.
        seconds: Time from the first slice to the last. Reading, the guard and writing work beside
            the denoiser; they count where it waited for them.
        noise_before_hu: Noise in soft tissue of the source, HU; None without soft tissue.
        noise_after_hu: The same in the result.
        mean_shift_hu: Mean of result minus source in soft tissue, HU; None without soft tissue or
            with the guard off.
        guard_seconds: Time in the guard and for measuring noise, most of it beside the denoiser.
        findings: Findings of the guard; empty when it is off.
    """

    model: str
    version: str
    digest: str
    weights_sha256: str
    device: str
    steps: int
    strength: float
    dose_gain: float | None
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

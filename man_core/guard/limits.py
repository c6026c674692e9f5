"""Limits above which a result is flagged or blocked.

Chosen on the validation split (real quarter and full dose of L096, six patients at full dose and at
simulated 1/4 and 1/10, one contiguous series; 8 to 80 HU of noise) to separate three results: `man`
(weights 3e913a842066 then), the other dose of the same slice, which a perfect denoiser would
return, and Gaussian blurs. docs/guard.md lists the values of the present weights and the command
that measures them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from man_core.guard.verdict import Verdict


@dataclass(frozen=True)
class Limit:
    """Limits of one check: a value above ``flag`` is flagged, above ``block`` blocked."""

    flag: float
    block: float

    def judge(self, value: float, allowance: float = 0.0) -> tuple[Verdict, float]:
        """Return the verdict on the magnitude of a value, and the limit exceeded or the next one.

        Args:
            value: Of either sign; NaN exceeds every limit.
            allowance: Added to both limits.
        """
        flag, block = self.flag + allowance, self.block + allowance
        if not abs(value) <= block:
            return Verdict.BLOCK, block
        return (Verdict.FLAG if abs(value) > flag else Verdict.OK), flag


@dataclass(frozen=True)
class GuardLimits:
    """Limits of all checks; see ``Check`` and docs/guard.md.

    Attributes:
        overshoot: HU by which the result leaves the range of its source.
        noise: Ratio of the noise in the result to that in the source.
        plastic: Ratio of the noise in the source to that in the result.
        drift_air: Shift of the mean, HU.
        drift_lung: The same.
        drift_fat: The same.
        drift_soft_tissue: The same.
        drift_bone: The same.
        faint_edges: Gaussian blur of faint edges, standard deviation in pixels.
        strong_edges: The same of strong edges.
        coherence: Largest residual averaged over 5 mm, in standard deviations of averaged noise.

    Raises:
        ValueError: A limit is negative or NaN, or ``block`` is below ``flag``.
    """

    overshoot: Limit = Limit(500.0, 1500.0)
    noise: Limit = Limit(1.05, 1.25)
    plastic: Limit = Limit(10.0, 25.0)
    drift_air: Limit = Limit(5.0, 10.0)
    drift_lung: Limit = Limit(4.0, 8.0)
    drift_fat: Limit = Limit(2.0, 4.0)
    drift_soft_tissue: Limit = Limit(2.0, 4.0)
    drift_bone: Limit = Limit(6.0, 12.0)
    faint_edges: Limit = Limit(0.55, 0.8)
    strong_edges: Limit = Limit(0.45, 0.6)
    coherence: Limit = Limit(6.0, 8.0)

    def __post_init__(self) -> None:
        for field in fields(self):
            limit: Limit = getattr(self, field.name)
            if not 0.0 <= limit.flag <= limit.block:
                raise ValueError(
                    f"{field.name} needs a limit to flag of at least 0 and one to block that is no "
                    f"lower, got {limit.flag:g} and {limit.block:g}"
                )

"""From which value on a result is flagged or blocked.

Chosen on the validation split (L096's real quarter and full dose, six patients at full dose and at
simulated 1/4 and 1/10, one contiguous series; 8 to 80 HU of noise), between three results: `man`
(weights 3e913a842066 then), the other dose of the same slice, which is what a perfect denoiser
would give, and Gaussian blurs. docs/guard.md has the figures of today's weights and says how to
measure them again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from man_core.guard.verdict import Verdict


@dataclass(frozen=True)
class Limit:
    """A value above ``flag`` is flagged, above ``block`` blocked."""

    flag: float
    block: float

    def judge(self, value: float, allowance: float = 0.0) -> tuple[Verdict, float]:
        """The verdict on the size of a value, and the limit that it is over or would meet first.

        Args:
            value: Of either sign; what is not a number is over every limit.
            allowance: Added to both limits.
        """
        flag, block = self.flag + allowance, self.block + allowance
        if not abs(value) <= block:
            return Verdict.BLOCK, block
        return (Verdict.FLAG if abs(value) > flag else Verdict.OK), flag


@dataclass(frozen=True)
class GuardLimits:
    """The limits of all checks; see ``Check`` and docs/guard.md.

    Attributes:
        overshoot: HU by which the result leaves the range of its source.
        noise: Noise of the result over that of the source.
        plastic: Noise of the source over that of the result.
        drift_air: Shift of the mean, HU.
        drift_lung: The same.
        drift_fat: The same.
        drift_soft_tissue: The same.
        drift_bone: The same.
        faint_edges: Gaussian blur of faint edges, standard deviation in pixels.
        strong_edges: The same of strong edges.
        coherence: Largest residual averaged over 5 mm, in standard deviations of averaged noise.

    Raises:
        ValueError: A limit is negative or no number, or blocks before it flags.
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
                    f"{field.name} has a limit to flag and one to block, the first at least 0 and "
                    f"at most the second, got {limit.flag:g} and {limit.block:g}"
                )

"""Rule of promotion: no worse than the current model on held-out patients, metric by metric."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from training.evaluate.cases import FULL_DOSE
from training.evaluate.comparison import CHANGE, LPIPS, PSNR, SSIM, Figure, Paired
from training.evaluate.resampling import Values

MIN_PATIENTS = 3
"""Minimum number of held-out patients; with fewer, chance decides."""


@dataclass(frozen=True)
class Tolerance:
    """Tolerated loss of a metric against the current model.

    Attributes:
        mean: Loss in the mean over patients.
        patient: Loss in any single patient.
        harmless: Values up to this are always accepted; None: none are.
    """

    mean: float
    patient: float
    harmless: float | None = None


TOLERANCES = {
    PSNR.name: Tolerance(mean=0.1, patient=0.5),
    SSIM.name: Tolerance(mean=0.003, patient=0.015),
    LPIPS.name: Tolerance(mean=0.005, patient=0.025),
    CHANGE.name: Tolerance(mean=0.02, patient=0.1, harmless=0.5),
}
"""Means: equal quality in the choice of samplers (0.1 dB, 0.003, 0.005). A single patient may lose
five times as much, since patients vary. A change of full dose by less than half of its own noise is
harmless."""

BIAS_TOLERANCE = Tolerance(mean=0.2, patient=0.5, harmless=1.0)
"""Tolerated bias of the mean of a tissue, HU; 1 HU is the quality gate of every model."""


def tolerance_of(figure: Figure) -> Tolerance:
    """Return the tolerance of a metric."""
    return TOLERANCES.get(figure.name, BIAS_TOLERANCE)


def faults(pairs: Sequence[Paired]) -> list[str]:
    """List the reasons against replacing the first model of a comparison by the second.

    Args:
        pairs: See ``comparison.compare``; the first model is the current one.

    Returns:
        Clauses for a sentence; empty if the model may be promoted.
    """
    low_dose = [pair for pair in pairs if pair.kind.dose != FULL_DOSE]
    patients = {name for pair in low_dose for name in pair.patients}
    if len(patients) < MIN_PATIENTS:
        return [
            f"too few held-out patients to judge by: {len(patients)}, "
            f"where at least {MIN_PATIENTS} are needed"
        ]
    return [fault for pair in pairs for fault in _faults_of(pair)]


def _faults_of(pair: Paired) -> Iterator[str]:
    allowed = tolerance_of(pair.figure)
    mean_loss = -float(pair.gain.mean())
    if mean_loss > allowed.mean and not _harmless(float(pair.second.mean()), allowed):
        yield (
            f"{_named(pair)}: {mean_loss:.4f} worse in the mean of {len(pair.patients)} patients "
            f"({allowed.mean:g} is allowed)"
        )
    for number in _losers(pair.second, -pair.gain, allowed):
        yield (
            f"{_named(pair)}: {-pair.gain[number]:.4f} worse in patient {pair.patients[number]} "
            f"({allowed.patient:g} is allowed)"
        )


def _losers(values: Values, losses: Values, allowed: Tolerance) -> list[int]:
    found = np.flatnonzero(losses > allowed.patient)
    return [int(place) for place in found if not _harmless(float(values[place]), allowed)]


def _harmless(value: float, allowed: Tolerance) -> bool:
    return allowed.harmless is not None and value <= allowed.harmless


def _named(pair: Paired) -> str:
    return f"{pair.figure.name} ({pair.kind})"


def rule() -> dict[str, Any]:
    """Return the rule as plain values for a record."""
    return {
        "fewest_patients": MIN_PATIENTS,
        "tolerances": {name: asdict(allowed) for name, allowed in TOLERANCES.items()},
        "hu_bias": asdict(BIAS_TOLERANCE),
    }

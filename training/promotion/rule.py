"""When a model may take the place of today's: no worse on held-out patients, figure by figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from training.evaluate.cases import FULL_DOSE
from training.evaluate.comparison import CHANGE, LPIPS, PSNR, SSIM, Figure, Paired, Values

MIN_PATIENTS = 3
"""Below this, chance decides: one patient with a metal implant is a third of all."""


@dataclass(frozen=True)
class Tolerance:
    """How much worse a figure may be than today's.

    Attributes:
        mean: Of the mean over patients.
        patient: Of any single patient.
        harmless: Values up to this are never held against the model; None: there are none.
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
"""Means: what counts as the same quality when samplers are chosen (0.1 dB, 0.003, 0.005). A single
patient may lose five times that, since patients scatter. Full dose changed by less than half of its
own noise is left alone."""

BIAS_TOLERANCE = Tolerance(mean=0.2, patient=0.5, harmless=1.0)
"""HU by which a tissue's mean may be off; 1 HU is the gate of every model."""


def tolerance_of(figure: Figure) -> Tolerance:
    """What is allowed of a figure."""
    return TOLERANCES.get(figure.name, BIAS_TOLERANCE)


def faults(pairs: Sequence[Paired]) -> list[str]:
    """Why the second model of a comparison may not take the place of the first; [] where it may.

    Args:
        pairs: See ``comparison.compare``; the first model is today's.
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
    """The rule for a record."""
    return {
        "fewest_patients": MIN_PATIENTS,
        "tolerances": {name: asdict(allowed) for name, allowed in TOLERANCES.items()},
        "hu_bias": asdict(BIAS_TOLERANCE),
    }

"""Can a model be trusted? HU, full dose, planted lesions, noise texture and neighbouring slices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from man_core.quality import LesionTrial
from training.assess.finding import Finding
from training.assess.images import (
    CaseResult,
    apply,
    bias,
    continuity,
    full_dose_change,
    tissue_noise,
)
from training.assess.lesions import plan, plant, survival
from training.assess.phantom import phantom_findings
from training.errors import TrainingError
from training.evaluate.cases import Case
from training.evaluate.methods import Method


@dataclass(frozen=True)
class Assessment:
    """What was found of a model.

    Attributes:
        model: Name of the model or method.
        weights_sha256: Of its weights; empty for what has none.
        sampler: Empty for what does not sample.
        steps: Sampling steps.
        findings: In the order in which they are read.
    """

    model: str
    weights_sha256: str
    sampler: str
    steps: int
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> tuple[Finding, ...]:
        """What is beyond its limit."""
        return tuple(finding for finding in self.findings if finding.passed is False)


def assess(
    method: Method,
    cases: Iterable[Case],
    contiguous: Iterable[Case] = (),
    *,
    trials: int = 200,
    phantom_dose: float | None = None,
    on_case: Callable[[int, int | None], None] | None = None,
) -> Assessment:
    """Measure a model on low-dose cases and on contiguous series.

    Args:
        method: The model.
        cases: Low-dose cases with their full dose.
        contiguous: Low-dose cases whose slices are neighbours.
        trials: Lesions to plant in the cases.
        phantom_dose: Dose at which phantoms are added; None: no phantoms.
        on_case: Called with (cases done, cases in all).

    Raises:
        TrainingError: There was no case, or the model failed.
    """
    cases, contiguous = list(cases), list(contiguous)
    if not cases:
        raise TrainingError("there was nothing to assess: no series with soft tissue")
    tell = on_case or (lambda _done, _all: None)
    seen: list[CaseResult] = []
    planted: list[LesionTrial] = []
    for done, (case, lesions) in enumerate(zip(cases, plan(cases, trials), strict=True), 1):
        seen.append(CaseResult(case, apply(method, case)))
        planted.extend(plant(method, seen[-1], lesions))
        tell(done, len(cases) + len(contiguous))
    findings = [*bias(seen), full_dose_change(method, cases), *survival(planted, cases)]
    findings.extend(tissue_noise(seen))
    for done, case in enumerate(contiguous, len(cases) + 1):
        findings.extend(continuity(CaseResult(case, apply(method, case))))
        tell(done, len(cases) + len(contiguous))
    if phantom_dose is not None:
        findings.extend(phantom_findings(method, phantom_dose))
    identity = (method.name, method.weights_sha256, method.sampler, method.steps)
    return Assessment(*identity, tuple(findings))

"""Assessment of a model: HU, full dose, lesions, noise, continuity, detectability, loudness."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from man_core.quality import LesionTrial
from training.assess.finding import Finding
from training.assess.images import (
    CaseResult,
    apply,
    bias,
    continuity,
    full_dose_change,
    patient_bias,
    tissue_noise,
)
from training.assess.inventions import invention_findings
from training.assess.lesions import insert, plan, survival
from training.assess.low_contrast import DEFAULT_PAIRS, patient_findings, water_findings
from training.assess.phantom import phantom_findings
from training.assess.sweep import Rows, Sweep, full_doses, measure_sweep, sweep_findings
from training.errors import TrainingError
from training.evaluate.cases import Case
from training.evaluate.methods import Method


@dataclass(frozen=True)
class Assessment:
    """Findings of a model.

    Attributes:
        model: Name of the model or method.
        weights_sha256: Hash of its weights; empty if it has none.
        sampler: Its sampler; empty if it does not sample.
        steps: Sampling steps.
        findings: Findings in reading order.
        sweep: Noise sweep; None if it was left out.
    """

    model: str
    weights_sha256: str
    sampler: str
    steps: int
    findings: tuple[Finding, ...]
    sweep: Sweep | None = None

    @property
    def broken(self) -> tuple[Finding, ...]:
        """Findings outside their limits."""
        return tuple(finding for finding in self.findings if finding.passed is False)


def assess(
    method: Method,
    cases: Iterable[Case],
    contiguous: Iterable[Case] = (),
    *,
    trials: int = 200,
    pairs: int = DEFAULT_PAIRS,
    phantom_dose: float | None = None,
    rows: Rows | None = None,
    on_case: Callable[[int, int | None], None] | None = None,
) -> Assessment:
    """Measure a model on low-dose cases and on contiguous series.

    Args:
        method: Model.
        cases: Low-dose cases with their full dose.
        contiguous: Low-dose cases of neighbouring slices.
        trials: Number of lesions to insert.
        pairs: Number of regions with and without each low-contrast disc; 0: none.
        phantom_dose: Dose of the phantoms; None: no phantoms.
        rows: Rows of the noise sweep beside the model; None: no sweep.
        on_case: Callback with (cases done, total cases).

    Raises:
        TrainingError: There is no case, or the model failed.
    """
    cases, contiguous = list(cases), list(contiguous)
    if not cases:
        raise TrainingError("There is nothing to assess: no series shows soft tissue.")
    report = on_case or (lambda _done, _total: None)
    outcomes: list[CaseResult] = []
    planted: list[LesionTrial] = []
    for done, (case, lesions) in enumerate(zip(cases, plan(cases, trials), strict=True), 1):
        outcomes.append(CaseResult(case, apply(method, case)))
        planted.extend(insert(method, outcomes[-1], lesions))
        report(done, len(cases) + len(contiguous))
    findings = [*bias(outcomes), *patient_bias(outcomes), full_dose_change(method, cases)]
    findings.extend(survival(planted, cases))
    findings.extend(invention_findings(outcomes))
    findings.extend(tissue_noise(outcomes))
    for done, case in enumerate(contiguous, len(cases) + 1):
        findings.extend(continuity(CaseResult(case, apply(method, case))))
        report(done, len(cases) + len(contiguous))
    findings.extend(_detectability(method, outcomes, pairs, phantom_dose))
    sweep = None if rows is None else measure_sweep(method, full_doses(cases), rows)
    findings.extend(sweep_findings(sweep) if sweep else ())
    identity = (method.name, method.weights_sha256, method.sampler, method.steps)
    return Assessment(*identity, tuple(findings), sweep)


def _detectability(
    method: Method, outcomes: list[CaseResult], pairs: int, phantom_dose: float | None
) -> Iterator[Finding]:
    """Measure low-contrast discs in patients, phantoms, and the discs in water."""
    if pairs:
        yield from patient_findings(method, outcomes, pairs)
    if phantom_dose is not None:
        yield from phantom_findings(method, phantom_dose)
    if phantom_dose is not None and pairs:
        yield from water_findings(method, phantom_dose, pairs)

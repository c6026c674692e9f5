"""Comparison of two models on the same cases, paired over patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from man_core.quality import SOFT_TISSUE, Window, change_over_noise
from training.errors import TrainingError
from training.evaluate.cases import FULL_DOSE, Case
from training.evaluate.methods import Method, untouched
from training.evaluate.resampling import Values, bootstrap
from training.evaluate.run import NOTHING, CaseRow, rows_of_case


class Figure(NamedTuple):
    """A metric.

    Attributes:
        name: Name with unit.
        sign: 1 if higher is better, -1 if lower is better.
        signed: Whether values may be negative; then their magnitude counts.
    """

    name: str
    sign: int
    signed: bool = False


PSNR = Figure("PSNR dB", 1)
SSIM = Figure("SSIM", 1)
LPIPS = Figure("LPIPS", -1)
CHANGE = Figure("change of full dose / its noise", -1)
"""Only for full dose as input; see ``quality.change_over_noise``."""


def bias_in(tissue: str) -> Figure:
    """Return the metric of the absolute bias of a tissue."""
    return Figure(f"HU off in {tissue}", -1, signed=True)


class Kind(NamedTuple):
    """Kind of cases that a metric was measured on.

    Attributes:
        split: Origin of the cases.
        dose: Fraction of full dose of the input.
        real: Whether the low dose was measured, not simulated.
        window_hu: Window of the metric; None if it has none.
    """

    split: str
    dose: float
    real: bool
    window_hu: Window | None

    def __str__(self) -> str:
        """Return a description for titles and sentences."""
        if self.dose == FULL_DOSE:
            return f"{self.split}, full dose"
        words = f"{self.split}, {'real' if self.real else 'simulated'} dose {self.dose:g}"
        return words if self.window_hu is None else f"{words}, {self.window_hu} HU"


@dataclass(frozen=True, eq=False)
class Paired:
    """One metric of two models on the same patients.

    Attributes:
        kind: Kind of cases.
        figure: Metric.
        patients: Pseudonyms or numbers of the patients.
        low: Values of the untouched low dose [patient], means over the slices of a patient.
        first: Values of the first model [patient].
        second: Values of the second model [patient].
    """

    kind: Kind
    figure: Figure
    patients: tuple[str, ...]
    low: Values
    first: Values
    second: Values

    @property
    def gain(self) -> Values:
        """Improvement by the second model [patient]; negative where it is worse."""
        same = self.first == self.second  # infinity minus infinity is no number
        difference = np.where(same, 0.0, self.second) - np.where(same, 0.0, self.first)
        return self.figure.sign * difference

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of second minus first, see ``bootstrap``."""
        low, high = bootstrap(self.figure.sign * self.gain)
        return low, high

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; null stands for a value that is not finite."""
        gain, difference = self.gain, self.figure.sign * self.gain
        return {
            **self.kind._asdict(),
            "figure": self.figure.name,
            "more_is_better": self.figure.sign > 0,
            "low_dose": _finite(self.low.mean()),
            "first": _finite(self.first.mean()),
            "second": _finite(self.second.mean()),
            "difference": _finite(difference.mean()),
            "interval": [_finite(bound) for bound in self.interval],
            "better": int((gain > 0).sum()),
            "worse": int((gain < 0).sum()),
            "patients": {
                name: {"low_dose": _finite(low), "first": _finite(one), "second": _finite(two)}
                for name, low, one, two in zip(
                    self.patients, self.low, self.first, self.second, strict=True
                )
            },
        }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def compare(
    first: Method,
    second: Method,
    cases: Iterable[Case],
    windows: Sequence[Window] = (SOFT_TISSUE,),
    on_case: Callable[[int, int | None], None] | None = None,
) -> list[Paired]:
    """Measure two models and the untouched low dose on the same cases.

    Full dose as input has no other truth: there its change replaces PSNR, SSIM and LPIPS.

    Raises:
        TrainingError: There is no case, or a model failed.
    """
    methods = (untouched(), first, second)
    measured: list[_Measured] = []
    for done, case in enumerate(cases, 1):
        for place, method in enumerate(methods):
            measured.extend(_measured(place, method, case, windows))
        if on_case:
            on_case(done, None)
    if not measured:
        raise TrainingError(NOTHING)
    return _paired(measured)


class _Measured(NamedTuple):
    """One metric of one method (0: low dose, 1 and 2: the models) on one case."""

    kind: Kind
    figure: Figure
    patient: str
    place: int
    value: float
    slices: int


def _measured(
    place: int, method: Method, case: Case, windows: Sequence[Window]
) -> Iterator[_Measured]:
    for number, found in enumerate(rows_of_case(method, case, windows)):
        for window, figure, value in _figures(found, everything=number == 0):
            kind = Kind(case.split, case.dose, case.real, window)
            yield _Measured(kind, figure, case.patient, place, value, len(case.full))
    if case.dose == FULL_DOSE:
        result, _ = method.apply(case, windows[0])
        kind = Kind(case.split, case.dose, case.real, None)
        change = change_over_noise(result, case.full)
        yield _Measured(kind, CHANGE, case.patient, place, change, len(case.full))


def _figures(found: CaseRow, *, everything: bool) -> Iterator[tuple[Window | None, Figure, float]]:
    row = found.row
    if row.dose != FULL_DOSE:
        yield row.window_hu, PSNR, row.psnr_db
        yield row.window_hu, SSIM, row.ssim
        yield row.window_hu, LPIPS, row.lpips
    if everything:  # independent of the window: once
        for tissue, bias in row.bias_hu.items():
            yield None, bias_in(tissue), bias


def _paired(measured: Sequence[_Measured]) -> list[Paired]:
    groups: dict[tuple[Kind, Figure], dict[str, list[list[_Measured]]]] = {}
    for one in measured:
        of_patient = groups.setdefault((one.kind, one.figure), {})
        of_patient.setdefault(one.patient, [[], [], []])[one.place].append(one)
    pairs = (_pair(kind, figure, found) for (kind, figure), found in groups.items())
    return [pair for pair in pairs if pair.patients]


def _pair(kind: Kind, figure: Figure, found: dict[str, list[list[_Measured]]]) -> Paired:
    """Average over the slices of each patient; patients without the metric are left out.

    Raises:
        TrainingError: A model has no value although the low dose has one.
    """
    table = {patient: [_mean(part) for part in parts] for patient, parts in found.items()}
    known = {patient: row for patient, row in table.items() if not math.isnan(row[0])}
    for patient, row in known.items():
        if np.isnan(row).any():
            raise TrainingError(f"A model returned non-finite values for patient {patient}.")
    values = np.array(list(known.values()), dtype=np.float64).reshape(-1, 3)
    if figure.signed:
        values = np.abs(values)
    return Paired(kind, figure, tuple(known), *values.T)


def _mean(part: list[_Measured]) -> float:
    return float(np.average([m.value for m in part], weights=[m.slices for m in part]))

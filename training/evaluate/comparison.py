"""Two models on the same cases: paired over patients, since slices of a patient are alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from man_core.quality import SOFT_TISSUE, Window, change_over_noise
from training.errors import TrainingError
from training.evaluate.cases import FULL_DOSE, Case
from training.evaluate.methods import Method, untouched
from training.evaluate.run import NOTHING, CaseRow, rows_of_case

RESAMPLES = 10_000
"""Draws of the bootstrap."""

BOOTSTRAP_SEED = 0
"""The same comparison gives the same interval."""

INTERVAL = (2.5, 97.5)
"""Percentiles that bound 95 %."""

Values = NDArray[np.float64]


class Figure(NamedTuple):
    """A measured quantity.

    Attributes:
        name: With its unit.
        sign: 1 where more is better, -1 where less is.
        signed: Whether a patient's value may be below 0, and then counts without its sign.
    """

    name: str
    sign: int
    signed: bool = False


PSNR = Figure("PSNR dB", 1)
SSIM = Figure("SSIM", 1)
LPIPS = Figure("LPIPS", -1)
CHANGE = Figure("change of full dose / its noise", -1)
"""Only with full dose as input; see ``quality.change_over_noise``."""


def bias_in(tissue: str) -> Figure:
    """How far the mean HU of a tissue is off, whichever way."""
    return Figure(f"HU off in {tissue}", -1, signed=True)


class Kind(NamedTuple):
    """What a figure was measured on.

    Attributes:
        split: Where the cases come from.
        dose: Fraction of full dose of the input.
        real: Whether the low dose was measured or simulated.
        window_hu: Window of the metrics; None for what needs none.
    """

    split: str
    dose: float
    real: bool
    window_hu: Window | None

    def __str__(self) -> str:
        """For a title or a sentence."""
        if self.dose == FULL_DOSE:
            return f"{self.split}, full dose"
        words = f"{self.split}, {'real' if self.real else 'simulated'} dose {self.dose:g}"
        return words if self.window_hu is None else f"{words}, {self.window_hu} HU"


@dataclass(frozen=True, eq=False)
class Paired:
    """One figure of two models on the same patients.

    Attributes:
        kind: What it was measured on.
        figure: Which one.
        patients: Pseudonyms or numbers.
        low: The untouched low dose [patient], mean over the patient's slices.
        first: The first model [patient].
        second: The second model [patient].
    """

    kind: Kind
    figure: Figure
    patients: tuple[str, ...]
    low: Values
    first: Values
    second: Values

    @property
    def gain(self) -> Values:
        """By how much the second model is better [patient]; negative where it is worse."""
        same = self.first == self.second  # infinity minus infinity is no number
        difference = np.where(same, 0.0, self.second) - np.where(same, 0.0, self.first)
        return self.figure.sign * difference

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of second minus first, see ``bootstrap``."""
        low, high = bootstrap(self.figure.sign * self.gain)
        return low, high

    def to_dict(self) -> dict[str, Any]:
        """For JSON; null stands for a number that is not finite."""
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


def bootstrap(values: Values) -> tuple[float, float]:
    """Percentile interval of the mean of independent values [patient] (Efron 1979).

    Of few patients it is too narrow: below some ten take it as a hint. NaN for a single one.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return math.nan, math.nan
    random = np.random.default_rng(BOOTSTRAP_SEED)
    drawn = random.integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), INTERVAL)
    return float(low), float(high)


def compare(
    first: Method,
    second: Method,
    cases: Iterable[Case],
    windows: Sequence[Window] = (SOFT_TISSUE,),
    on_case: Callable[[int, int | None], None] | None = None,
) -> list[Paired]:
    """Measure two models on the same cases, with the untouched low dose beside them.

    Full dose as input has no truth but itself: there, how much it is changed stands in place of
    PSNR, SSIM and LPIPS.

    Raises:
        TrainingError: There was no case, or a model failed.
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
    """One figure of one method (0: low dose, 1 and 2: the models) on one case."""

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
    if everything:  # what depends on no window is said once
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
    """Means over each patient's slices; patients of whom the figure is unknown are left out.

    Raises:
        TrainingError: A model has no value where the low dose has one.
    """
    table = {patient: [_mean(part) for part in parts] for patient, parts in found.items()}
    known = {patient: row for patient, row in table.items() if not math.isnan(row[0])}
    for patient, row in known.items():
        if np.isnan(row).any():
            raise TrainingError(f"a model gave values that are no numbers for patient {patient}")
    values = np.array(list(known.values()), dtype=np.float64).reshape(-1, 3)
    if figure.signed:
        values = np.abs(values)
    return Paired(kind, figure, tuple(known), *values.T)


def _mean(part: list[_Measured]) -> float:
    return float(np.average([m.value for m in part], weights=[m.slices for m in part]))

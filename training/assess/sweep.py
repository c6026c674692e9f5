"""Noise sweep: share of the noise that is left and image quality from quiet to loud images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from man_core.quality import SOFT_TISSUE, psnr, ssim
from training.assess.finding import Finding, Limit
from training.assess.images import Hu, apply
from training.assess.loudness import LEVELS_HU, Loud, louder
from training.evaluate.cases import Case
from training.evaluate.classical import BestStrength, total_variation
from training.evaluate.methods import Method, untouched

MAX_RISE = Limit(0.0, 0.01)
"""Rise of the share that is left from one level to the next: not 0, because clipping at -1024 HU
and the change of full dose's own noise differ a little between levels. A hundredth is 0.1 HU at
10 HU and 3 HU at 300 HU, which no reader sees."""

TV_WEIGHTS = (0.4, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6)
"""Weights of the total variation, in units of the noise: loud images want more than quiet ones."""

TOTAL_VARIATION = "total variation, best weight"


@dataclass(frozen=True)
class Rows:
    """Rows of a sweep beside the model at its default.

    Attributes:
        settings: The model at other positions of its dials.
        others: Other models, which the model must not fall behind.
    """

    settings: tuple[Method, ...] = ()
    others: tuple[Method, ...] = ()


@dataclass(frozen=True)
class SweepPoint:
    """One row at one level, means over the series that are quiet enough for it.

    Attributes:
        row: Name of the row.
        weights_sha256: Hash of the weights; empty without weights.
        noise_hu: Noise in soft tissue before, HU.
        noise_left: Share of the added noise that is left.
        psnr_db: PSNR against full dose in the soft-tissue window, dB.
        ssim: SSIM, likewise.
        series: Number of series, of each of which one slice counts.
    """

    row: str
    weights_sha256: str
    noise_hu: float
    noise_left: float
    psnr_db: float
    ssim: float
    series: int


@dataclass(frozen=True)
class SweptRow:
    """A row at all levels.

    Attributes:
        name: Name of the row.
        points: Points by rising noise.
        rise: Largest rise of the share that is left from a level to the next, over the series
            that have both; negative if it falls everywhere, NaN with a single level.
    """

    name: str
    points: tuple[SweepPoint, ...]
    rise: float


@dataclass(frozen=True)
class Sweep:
    """A measured sweep.

    Attributes:
        split: Split of the full dose.
        low: Untouched images.
        model: The model at its default.
        settings: The model at other positions of its dials.
        others: Other models, then total variation.
    """

    split: str
    low: SweptRow
    model: SweptRow
    settings: tuple[SweptRow, ...]
    others: tuple[SweptRow, ...]

    def rows(self) -> tuple[SweptRow, ...]:
        """Return all rows in reading order."""
        return self.low, self.model, *self.settings, *self.others

    def to_json(self) -> list[dict[str, Any]]:
        """Return the points of all rows as plain values; null stands for an infinite PSNR."""
        points = [asdict(point) for row in self.rows() for point in row.points]
        return [{k: _finite(v) for k, v in point.items()} for point in points]


def measure_sweep(
    method: Method,
    cases: Sequence[Case],
    rows: Rows,
    *,
    levels: Sequence[float] = LEVELS_HU,
    on_slice: Callable[[int, int | None], None] | None = None,
) -> Sweep:
    """Measure a model, other rows and total variation at each level of noise.

    Args:
        method: Model.
        cases: Cases whose full dose gets the noise; the middle slice of each counts.
        rows: Further rows.
        levels: Noise in soft tissue, HU, rising.
        on_slice: Callback with (cases done, total cases).

    Raises:
        TrainingError: A model failed.
    """
    methods = [untouched(), method, *rows.settings, *rows.others]
    tallies = [*map(_tally_of, methods), _Tally(TOTAL_VARIATION, "", _total_variation)]
    for done, case in enumerate(cases, 1):
        for loud in louder(case, levels):
            for tally in tallies:
                tally.add(done, loud)
        if on_slice:
            on_slice(done, len(cases))
    low, own, *rest = (tally.row() for tally in tallies)
    count = len(rows.settings)
    return Sweep(cases[0].split, low, own, tuple(rest[:count]), tuple(rest[count:]))


def full_doses(cases: Sequence[Case]) -> list[Case]:
    """Return the cases that a sweep needs: of a set with pairs, each full dose once."""
    return [case for case in cases if not case.real] or list(cases)


def sweep_findings(sweep: Sweep) -> Iterator[Finding]:
    """Report noise left, its rise, PSNR and SSIM; the model's default must lead in PSNR."""
    for row in (sweep.model, *sweep.settings):
        subject = f"noise sweep, {sweep.split}, full dose with noise added, {row.name}"
        lows = {point.noise_hu: point for point in sweep.low.points}
        for point in row.points:
            yield from _of_level(sweep, subject, point, lows[point.noise_hu], row is sweep.model)
        rises = f"from a level to the next, at most {row.rise:+.3f}"
        yield Finding(
            "rise of noise left with loudness",
            subject,
            max(row.rise, 0.0),  # NaN stays
            limit=MAX_RISE,
            note="fewer than two levels" if math.isnan(row.rise) else rises,
        )


def _of_level(
    sweep: Sweep, subject: str, point: SweepPoint, low: SweepPoint, leads: bool
) -> Iterator[Finding]:
    at, note = f"at {point.noise_hu:g} HU", f"{point.series} series"
    others = [
        other for row in sweep.others for other in row.points if other.noise_hu == point.noise_hu
    ]
    best = max((other.psnr_db for other in others), default=-math.inf)
    names = "; ".join(f"{o.row} {o.psnr_db:.2f} dB, {o.noise_left:.2f} left" for o in others)
    yield Finding(f"noise left {at}", subject, point.noise_left, low.noise_left, note=note)
    yield Finding(
        f"PSNR {at} (dB)",
        subject,
        point.psnr_db,
        low.psnr_db,
        Limit(best, math.inf) if leads else None,
        names,
    )
    names = "; ".join(f"{other.row} {other.ssim:.3f}" for other in others)
    yield Finding(f"SSIM {at}", subject, point.ssim, low.ssim, note=names)


class _Tally:
    """Measurements of one row.

    Args:
        name: Name of the row.
        weights_sha256: Hash of its weights; empty without weights.
        result_of: Method of the row, HU [slice, row, column].
    """

    def __init__(self, name: str, weights_sha256: str, result_of: Callable[[Loud], Hu]) -> None:
        self._name, self._weights_sha256 = name, weights_sha256
        self._result_of = result_of
        self._measured: dict[float, dict[int, tuple[float, float, float]]] = {}

    def add(self, series: int, loud: Loud) -> None:
        """Measure the slice of a series."""
        result, full = self._result_of(loud), loud.case.full
        scores = (psnr(result, full, SOFT_TISSUE), ssim(result, full, SOFT_TISSUE))
        self._measured.setdefault(loud.level_hu, {})[series] = (loud.left(result), *scores)

    def row(self) -> SweptRow:
        """Return the row."""
        levels = sorted(self._measured)
        points = tuple(self._point(level) for level in levels)
        rises = [self._rise(level, higher) for level, higher in pairwise(levels)]
        return SweptRow(self._name, points, max(rises, default=math.nan))

    def _point(self, level: float) -> SweepPoint:
        measured = list(self._measured[level].values())
        left, decibels, similarity = (float(mean) for mean in np.mean(measured, axis=0))
        known = (self._name, self._weights_sha256, level)
        return SweepPoint(*known, left, decibels, similarity, len(measured))

    def _rise(self, level: float, higher: float) -> float:
        before, after = self._measured[level], self._measured[higher]
        return float(np.mean([after[series][0] - before[series][0] for series in before]))


def _tally_of(method: Method) -> _Tally:
    return _Tally(method.name, method.weights_sha256, lambda loud: apply(method, loud.case))


def _total_variation(loud: Loud) -> Hu:
    """Filter with the weight of highest PSNR, tried around the true noise, which is known here."""

    def filter_slice(hu: Hu, _estimated_hu: float, strength: float) -> Hu:
        return total_variation(hu, loud.level_hu, strength)

    best = BestStrength(filter_slice, TV_WEIGHTS, kept=False)
    return best(loud.case, SOFT_TISSUE)[0]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

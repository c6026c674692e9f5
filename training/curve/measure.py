"""Measurement of a curve: every setting on every case, and on a phantom at the same doses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from man_core import ModelError
from man_core.noise import noise_hu_per_slice
from man_core.quality import Window
from man_core.texture import Texture
from training.assess.phantom import Rods
from training.curve.rule import Quality, default_position
from training.curve.settings import Dial, Setting, low_dose_setting, settings_of
from training.curve.water import WaterScores, water_scores
from training.errors import TrainingError
from training.evaluate.cases import Case
from training.evaluate.methods import Hu, Method
from training.evaluate.run import NOTHING, CaseRow, Row, averaged, rows_of_case

_Kind = tuple[str, float, bool]
"""Split, dose and whether the low dose is real."""


@dataclass(frozen=True)
class Point:
    """A setting on the cases of one kind.

    Attributes:
        model: Name of the model; ``low dose`` for the untouched image.
        dial: Dial that was set.
        value: Its position.
        row: Image quality, see ``Row``.
        noise_hu: Noise in soft tissue, mean over the slices, HU.
        noise_left: The same over that of the low dose.
        water: Scores on the phantom at the same dose.
    """

    model: str
    dial: Dial
    value: float
    row: Row
    noise_hu: float
    noise_left: float
    water: WaterScores

    @property
    def kind(self) -> _Kind:
        """Kind of the cases."""
        return _kind(self.row)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; null stands for a value that was not measured."""
        own = {"model": self.model, "dial": str(self.dial), "value": self.value}
        measured = {
            "noise_hu": self.noise_hu,
            "noise_left": self.noise_left,
            "noise_left_in_water": self.water.noise_left,
            "detectability": self.water.detectability,
        }
        finite = {name: v if math.isfinite(v) else None for name, v in measured.items()}
        return {**own, **finite, **self.row.to_dict()}


@dataclass(frozen=True)
class Curve:
    """A measured curve.

    Attributes:
        models: Models, in the order given.
        points: Points, low dose first; in order of kind, model, dial and position.
        sigma_pixels: Sigma of the textures; None without any.
    """

    models: tuple[Method, ...]
    points: tuple[Point, ...]
    sigma_pixels: float | None = None

    def kinds(self) -> list[_Kind]:
        """Return the kinds of cases in order of measurement."""
        return list(dict.fromkeys(point.kind for point in self.points))

    def of(self, model: Method, dial: Dial) -> list[Point]:
        """Return the points of one dial of a model, sorted by position."""
        own = [
            point
            for point in self.points
            if (point.dial, point.row.weights_sha256) == (dial, model.weights_sha256)
            and point.model == model.name
        ]
        return sorted(own, key=lambda point: point.value)

    def default_of(self, model: Method, dial: Dial) -> float | None:
        """Return the position that the rule chooses; None if the model lacks the dial."""
        points = self.of(model, dial)
        values = list(dict.fromkeys(point.value for point in points))
        sign = -1 if dial == Dial.TEXTURE else 1  # a larger share takes less noise away
        measured = [
            _quality(sign * value, [p for p in points if p.value == value]) for value in values
        ]
        return abs(default_position(measured)) if measured else None


def _quality(value: float, points: Sequence[Point]) -> Quality:
    """Average over the kinds of cases; each counts the same, whatever its number of slices."""
    scores = [(p.row.psnr_db, p.row.ssim, p.row.lpips) for p in points]
    return Quality(value, *(float(mean) for mean in np.mean(scores, axis=0)))


def measure_curve(
    models: Sequence[Method],
    cases: Iterable[Case],
    window: Window,
    gains: Sequence[float],
    strengths: Sequence[float],
    textures: Sequence[Texture] = (),
    *,
    phantom: bool = True,
    on_case: Callable[[int, int | None], None] | None = None,
) -> Curve:
    """Measure models at every position of their dials, beside the untouched low dose.

    Args:
        models: Models; one that cannot be told a dose gain gets the strengths only.
        cases: Low-dose cases with their full dose.
        window: Window of the metrics, HU.
        gains: Dose gains.
        strengths: Strengths, 0 to 1.
        textures: Textures of one sigma.
        phantom: Whether to measure noise left and detectability in water as well.
        on_case: Callback with (cases done, None), each phantom being another case.

    Raises:
        TrainingError: There is no case, or a model failed.
    """
    settings = [low_dose_setting()]
    for model in models:
        settings += settings_of(model, gains, strengths, textures)
    tally, done = _Tally(settings, window), 0
    report = on_case or (lambda _done, _total: None)
    for done, case in enumerate(cases, 1):
        tally.add(case)
        report(done, None)
    if not done:
        raise TrainingError(NOTHING)
    water: dict[float, list[WaterScores]] = {}
    for dose in tally.doses() if phantom else ():
        water[dose] = water_scores([setting.method for setting in settings], Rods(dose))
        report(done + len(water), None)
    sigma = textures[0].sigma_pixels if textures else None
    return Curve(tuple(models), tuple(tally.points(water)), sigma)


class _Tally:
    """Measurements of settings on single cases.

    Args:
        settings: Settings, the untouched low dose first.
        window: Window of the metrics, HU.
    """

    def __init__(self, settings: Sequence[Setting], window: Window) -> None:
        self._settings, self._window = settings, window
        self._rows: list[CaseRow] = []
        self._noise: dict[tuple[_Kind, int], list[float]] = {}

    def add(self, case: Case) -> None:
        """Measure every setting on a case.

        Raises:
            TrainingError: A model failed.
        """
        kind = (case.split, case.dose, case.real)
        for index, setting in enumerate(self._settings):
            try:
                result = setting.method.apply(case, self._window)
            except ModelError as error:
                raise TrainingError(str(error)) from error
            self._rows.extend(rows_of_case(_known(setting, result), case, (self._window,)))
            levels = noise_hu_per_slice(result[0])
            self._noise.setdefault((kind, index), []).extend(float(level) for level in levels)

    def doses(self) -> list[float]:
        """Return the doses of the cases."""
        return list(dict.fromkeys(each.row.dose for each in self._rows))

    def points(self, water: Mapping[float, Sequence[WaterScores]]) -> Iterator[Point]:
        """Yield a point for each kind of cases and setting.

        Args:
            water: Scores of the settings on the phantom, by dose; empty without phantom.
        """
        by_name = {(_kind(row), row.row, row.weights_sha256): row for row in averaged(self._rows)}
        for kind in dict.fromkeys(_kind(each.row) for each in self._rows):
            low = float(np.mean(self._noise[kind, 0]))
            for index, setting in self._in_order():
                method, own = setting.method, float(np.mean(self._noise[kind, index]))
                row = by_name[kind, method.name, method.weights_sha256]
                scores = water[kind[1]][index] if water else WaterScores()
                left = own / low if low else math.nan
                yield Point(setting.model, setting.dial, setting.value, row, own, left, scores)

    def _in_order(self) -> list[tuple[int, Setting]]:
        """Return the settings with their numbers, by model, dial and position."""
        models = [(setting.model, setting.method.weights_sha256) for setting in self._settings]

        def place(numbered: tuple[int, Setting]) -> tuple[int, bool, float]:
            number, setting = numbered
            return models.index(models[number]), setting.dial == Dial.GAIN, setting.value

        return sorted(enumerate(self._settings), key=place)


def _known(setting: Setting, result: tuple[Hu, float]) -> Method:
    """Return the method of a setting with its result, so that it is not computed again."""
    return replace(setting.method, apply=lambda _case, _window: result)


def _kind(row: Row) -> _Kind:
    return row.split, row.dose, row.real

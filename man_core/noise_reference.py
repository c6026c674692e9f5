"""Reference of noise: what the full-dose series of a site have, by kernel or texture.

The standard deviation of noise follows from resolution w, slice thickness h and dose D, sigma^2 ~
1 / (w^3 h D) (Brooks and Di Chiro 1976, Med Phys 3:237). A cell of the reference holds w fixed by
the kernel or by the texture of the noise in cycles/mm, and the body by its region; within a cell
the variance is scaled by 1 / h. The size of a pixel changes nothing, since sampling a noise keeps
its variance; it only decides how many cycles/mm a cycle per pixel is.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import Final

MIN_PATIENTS: Final = 3
"""A cell of fewer patients is not used: the median of fewer is no median."""

MAX_CELLS: Final = 1024
MAX_NAME_CHARACTERS: Final = 64

FORMAT: Final = 1

THICKNESS_EDGES_MM: Final = (0.0, 0.9, 1.8, 3.5, 7.0, 50.0)
"""Classes of slice thickness; protocols of one class have similar doses."""

TEXTURE_EDGES_PER_MM: Final = tuple(round(0.1 * 1.25**step, 3) for step in range(19))
"""Classes of texture, where no kernel is named: end of the apodisation, cycles/mm."""

Range = tuple[float, float]
"""From the first value on, below the second."""


@dataclass(frozen=True)
class SeriesNoise:
    """Noise of one series, with what it depends on.

    Attributes:
        noise_hu: Standard deviation in soft tissue, HU.
        texture_per_mm: End of the apodisation that gives its texture, cycles/mm.
        thickness_mm: Slice thickness; None where it is not stated.
        kernel: Convolution kernel; None where it is not stated.
        region: Body region, as in Body Part Examined; None where it is not stated.
    """

    noise_hu: float
    texture_per_mm: float
    thickness_mm: float | None
    kernel: str | None = None
    region: str | None = None


@dataclass(frozen=True)
class ReferenceCell:
    """Noise of full-dose series of one kind.

    Attributes:
        kernel: Convolution kernel; empty where the texture stands for it.
        texture_per_mm: Range of the texture where no kernel is named, cycles/mm.
        region: Body region; empty for series that state none.
        thickness_range_mm: Range of the slice thickness.
        noise_hu: Median over the patients, HU, at ``thickness_mm``.
        lowest_hu: Least of a patient, likewise.
        highest_hu: Largest of a patient, likewise.
        thickness_mm: Median of the series.
        series: Number of series.
        patients: Number of patients.
    """

    kernel: str
    texture_per_mm: Range | None
    region: str
    thickness_range_mm: Range
    noise_hu: float
    lowest_hu: float
    highest_hu: float
    thickness_mm: float
    series: int
    patients: int

    @property
    def usable(self) -> bool:
        """Whether enough patients are behind it."""
        return self.patients >= MIN_PATIENTS

    @property
    def words(self) -> str:
        """The kind of series, for people."""
        low, high = self.thickness_range_mm
        if self.texture_per_mm is None:
            kind = f"kernel {self.kernel}"
        else:
            kind = "texture {:g} to {:g} cycles/mm".format(*self.texture_per_mm)
        return f"{kind}, {self.region or 'no region'}, {low:g} to {high:g} mm"

    def noise_at(self, thickness_mm: float) -> float:
        """Return the noise of a full dose at a slice thickness, HU."""
        return self.noise_hu * math.sqrt(self.thickness_mm / thickness_mm)

    def holds(self, series: SeriesNoise) -> bool:
        """Return whether a series is of this kind."""
        return (
            _inside(series.thickness_mm, self.thickness_range_mm)
            and self.region == _name(series.region)
            and (
                self.kernel == _name(series.kernel)
                if self.texture_per_mm is None
                else _inside(series.texture_per_mm, self.texture_per_mm)
            )
        )


@dataclass(frozen=True)
class NoiseReference:
    """Noise of the full-dose series of a site.

    Attributes:
        cells: The kinds of series, those by kernel first.
    """

    cells: tuple[ReferenceCell, ...] = ()

    def cell_for(self, series: SeriesNoise) -> ReferenceCell | None:
        """Return the cell by which a series is judged; None where none has enough patients."""
        return next((cell for cell in self.cells if cell.usable and cell.holds(series)), None)

    def reason_without(self, series: SeriesNoise) -> str:
        """Return why a series has no cell, as a clause."""
        if series.thickness_mm is None:
            return "it states no slice thickness"
        thin = [cell for cell in self.cells if cell.holds(series)]
        if thin:
            most = max(cell.patients for cell in thin)
            return f"the noise reference has {most} patients like it, fewer than {MIN_PATIENTS}"
        return "the noise reference has no series like it"

    def to_json(self) -> str:
        """Return the reference as indented JSON."""
        content = {"format": FORMAT, "cells": [asdict(cell) for cell in self.cells]}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> NoiseReference:
        """Parse a reference.

        Raises:
            ValueError: The text is not a reference.
        """
        try:
            content = json.loads(text)
            if content["format"] != FORMAT or len(content["cells"]) > MAX_CELLS:
                raise ValueError("another format, or too many cells")
            return cls(tuple(_read_cell(one) for one in content["cells"]))
        except (TypeError, KeyError, AttributeError, ValueError, RecursionError) as error:
            raise ValueError(f"not a noise reference: {error}") from error


def learn_reference(measured: Iterable[tuple[str, SeriesNoise]]) -> NoiseReference:
    """Collect the noise of full-dose series.

    Each series counts for its kernel, where it states one, and for its texture. A series without
    noise or slice thickness counts nowhere.

    Args:
        measured: For each series, a name of its patient, which is only compared, and its noise.

    Raises:
        ValueError: There are more than ``MAX_CELLS`` kinds.
    """
    kinds: dict[_Kind, list[tuple[str, SeriesNoise]]] = defaultdict(list)
    for patient, series in measured:
        for kind in _kinds_of(series):
            kinds[kind].append((patient, series))
        if len(kinds) > MAX_CELLS:
            raise ValueError(f"more than {MAX_CELLS} kinds of series")
    cells = (_cell(kind, members) for kind, members in kinds.items())
    return NoiseReference(tuple(sorted(cells, key=_order)))


@dataclass(frozen=True)
class _Kind:
    kernel: str
    texture_per_mm: Range | None
    region: str
    thickness_range_mm: Range


def _kinds_of(series: SeriesNoise) -> Iterator[_Kind]:
    thickness = _class_of(series.thickness_mm, THICKNESS_EDGES_MM)
    if thickness is None or not series.noise_hu > 0.0:
        return
    region = _name(series.region)
    if kernel := _name(series.kernel):
        yield _Kind(kernel, None, region, thickness)
    if (texture := _class_of(series.texture_per_mm, TEXTURE_EDGES_PER_MM)) is not None:
        yield _Kind("", texture, region, thickness)


def _cell(kind: _Kind, members: list[tuple[str, SeriesNoise]]) -> ReferenceCell:
    thickness_mm = median(series.thickness_mm or 0.0 for _, series in members)
    of_patients: dict[str, list[float]] = defaultdict(list)
    for patient, series in members:
        scale = math.sqrt((series.thickness_mm or 0.0) / thickness_mm)
        of_patients[patient].append(series.noise_hu * scale)
    noises = [median(noises) for noises in of_patients.values()]
    return ReferenceCell(
        **vars(kind),
        noise_hu=round(median(noises), 3),
        lowest_hu=round(min(noises), 3),
        highest_hu=round(max(noises), 3),
        thickness_mm=thickness_mm,
        series=len(members),
        patients=len(of_patients),
    )


def _order(cell: ReferenceCell) -> tuple[object, ...]:
    by_texture = cell.texture_per_mm is not None
    return by_texture, cell.kernel, cell.texture_per_mm, cell.region, cell.thickness_range_mm


def _name(value: str | None) -> str:
    """Return a name as it is compared: without regard to case and surrounding spaces."""
    return (value or "").strip().upper()[:MAX_NAME_CHARACTERS]


def _inside(value: float | None, range_: Range) -> bool:
    return value is not None and range_[0] <= value < range_[1] and value > 0.0


def _class_of(value: float | None, edges: tuple[float, ...]) -> Range | None:
    if value is None or not 0.0 < value < edges[-1] or value < edges[0]:
        return None
    place = bisect_right(edges, value)
    return edges[place - 1], edges[place]


def _read_cell(fields: dict[str, object]) -> ReferenceCell:
    texture = fields["texture_per_mm"]
    cell = ReferenceCell(
        kernel=_text(fields["kernel"]),
        texture_per_mm=None if texture is None else _range(texture),
        region=_text(fields["region"]),
        thickness_range_mm=_range(fields["thickness_range_mm"]),
        **{key: _number(fields[key]) for key in _NUMBERS},
        series=_count(fields["series"]),
        patients=_count(fields["patients"]),
    )
    if (cell.texture_per_mm is None) != bool(cell.kernel):
        raise ValueError("a cell has either a kernel or a texture")
    return cell


_NUMBERS: Final = ("noise_hu", "lowest_hu", "highest_hu", "thickness_mm")


def _text(value: object) -> str:
    if not isinstance(value, str) or value != _name(value):
        raise ValueError("a name is a short text in capitals")
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("a number is expected")
    if not 0.0 < value < math.inf:
        raise ValueError("a number is not positive")
    return float(value)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("a count is expected")
    return value


def _range(value: object) -> Range:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("a range has two numbers")
    low, high = (0.0 if one == 0 else _number(one) for one in value)
    if not low < high:
        raise ValueError("a range begins below its end")
    return low, high

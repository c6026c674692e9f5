"""Gaps in a series: slices missing between two others.

A distance means nothing by itself: a head is scanned with 2.5 mm below and 5 mm above, stations
overlap, and phases interleave. So each distance is compared with the usual one among slices of the
same thickness and, where acquisitions overlap, of the same acquisition, and with its neighbouring
distances. A distance that the slice thickness covers is a gap only where nothing else explains it:
consecutive instance numbers, or a run of the same distance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.ct.attributes import number
from dicom_node.ct.slices.geometry import SPACING_TOLERANCE
from dicom_node.ct.slices.phases import phases_of
from dicom_node.ct.slices.spacing import (
    Pair,
    Slice,
    alike,
    beside,
    pairs_of,
    run_length,
    support,
    usual_distance,
)

MIN_GAP_RATIO: Final = 1.5
"""Ratio of a distance to the usual one from which a slice may be missing; it is where the ratio is
near a whole number."""

MIN_FREE_RATIO: Final = 0.9
"""Share of the smaller spacing that must be free for a slice where the spacing changes."""

MIN_RUN: Final = 3
"""Consecutive equal distances that form a spacing of their own."""

MIN_SUPPORT: Final = 2
"""Pairs that confirm a usual distance."""

Kind = tuple[float | None, float | None]
"""Slice thickness, and acquisition where acquisitions overlap."""


@dataclass(frozen=True)
class Gap:
    """Slices missing between two images.

    Attributes:
        before: Index of the lower neighbour among the images as given.
        after: Index of the upper neighbour.
        distance_mm: Distance between them.
        usual_mm: Usual distance of neighbours there.
        missing: Number of missing slices.
    """

    before: int
    after: int
    distance_mm: float
    usual_mm: float
    missing: int


@dataclass(frozen=True)
class Gaps:
    """Gaps found from the positions of a series.

    Attributes:
        found: The gaps, phase by phase in order of position.
        uneven: Whether no distance is usual: a sample of slices, or much is missing.
    """

    found: tuple[Gap, ...] = ()
    uneven: bool = False


def find_gaps(images: Sequence[Dataset], places: NDArray[np.float64]) -> Gaps:
    """Find the gaps in a series.

    Args:
        images: Headers, in any order.
        places: Position of each along the common normal, mm.

    Returns:
        The gaps; none where images at one position are indistinguishable, which reading reports.
    """
    phases = phases_of(images, places)
    if phases is None:
        return Gaps()
    slices = [_slice(at, image, float(places[at])) for at, image in enumerate(images)]
    numbers = sorted({one.number for one in slices if one.number is not None})
    judged = [_Stack([slices[at] for at in phase], numbers).gaps() for phase in phases]
    found = tuple(gap for one in judged for gap in one.found)
    return Gaps(found, any(one.uneven for one in judged))


def _slice(index: int, image: Dataset, place: float) -> Slice:
    thickness = number(image, "SliceThickness")
    return Slice(
        index,
        place,
        round(thickness, 2) if thickness is not None and thickness > 0 else None,
        number(image, "AcquisitionNumber"),
        number(image, "InstanceNumber"),
    )


class _Stack:
    """One phase, sorted by position."""

    def __init__(self, slices: Sequence[Slice], numbers: Sequence[float]) -> None:
        self._slices, self._numbers = slices, numbers
        self._tracks = _tracks(slices)
        self._places = {one.index: one.place for one in slices}
        self._usual = self._usual_by_kind()

    def gaps(self) -> Gaps:
        """The gaps between neighbours, and those within an acquisition that others overlap."""
        if len(self._slices) > 1 and not any(self._usual.values()):
            return Gaps(uneven=True)
        found = list(self._found(pairs_of(self._slices, self._numbers)))
        seen = [self._ends(gap) for gap in found]
        for track in self._tracks:
            for gap in self._found(pairs_of(track, self._numbers), only_numbered=True):
                low, high = self._ends(gap)
                if not any(low < end and begin < high for begin, end in seen):
                    found.append(gap)
        return Gaps(tuple(sorted(found, key=self._ends)))

    def _ends(self, gap: Gap) -> tuple[float, float]:
        return self._places[gap.before], self._places[gap.after]

    def _kind(self, one: Slice) -> Kind:
        return one.thickness, one.acquisition if self._tracks else None

    def _usual_by_kind(self) -> dict[Kind, float | None]:
        by_kind: dict[Kind, list[Pair]] = defaultdict(list)
        for track in self._tracks or [self._slices]:
            for pair in pairs_of(track, self._numbers):
                if self._kind(pair.first) == self._kind(pair.second):
                    by_kind[self._kind(pair.first)].append(pair)
        usual = {kind: usual_distance(pairs, kind[0]) for kind, pairs in by_kind.items()}
        confirmed = {
            kind for kind, mm in usual.items() if support(by_kind[kind], mm) >= MIN_SUPPORT
        }
        if confirmed and all(alike(usual[kind], kind[0]) for kind in confirmed):
            # Slices are contiguous; so are those of which there are too few to see it.
            usual |= {kind: kind[0] or usual[kind] for kind in usual if kind not in confirmed}
        return usual

    def _found(self, pairs: Sequence[Pair], *, only_numbered: bool = False) -> Iterator[Gap]:
        for at, pair in enumerate(pairs):
            below, above = self._expected(pairs, at)
            if below is None or above is None or (only_numbered and not pair.skipped):
                continue
            if alike(below, above):
                missing = self._missing_at(pairs, at, min(below, above))
            else:
                missing = _missing_between(pair, below, above)
            if missing:
                yield Gap(pair.first.index, pair.second.index, pair.mm, min(below, above), missing)

    def _expected(self, pairs: Sequence[Pair], at: int) -> tuple[float | None, float | None]:
        """The usual distances below and above: of the kinds, or of the neighbouring pairs."""
        pair = pairs[at]
        before, behind = beside(pairs, at)
        if before is not None and behind is not None and before < pair.mm > behind:
            return before, behind
        below, above = (self._usual.get(self._kind(one)) for one in (pair.first, pair.second))
        return below or above, above or below

    def _missing_at(self, pairs: Sequence[Pair], at: int, usual_mm: float) -> int:
        """Number of slices missing in a pair, where the spacing is the same on both sides."""
        ratio = pairs[at].mm / usual_mm
        multiple = abs(ratio - round(ratio)) <= SPACING_TOLERANCE
        if ratio < MIN_GAP_RATIO or not multiple or _is_scanners_own(pairs, at, usual_mm):
            return 0
        return round(ratio) - 1


def _missing_between(pair: Pair, below_mm: float, above_mm: float) -> int:
    """Number of slices missing where the spacing changes; 0 where none fits."""
    free = pair.mm - (below_mm + above_mm) / 2
    wide = pair.mm > (1 + SPACING_TOLERANCE) * max(below_mm, above_mm)
    if free < MIN_FREE_RATIO * min(below_mm, above_mm) or pair.skipped == 0:
        return 0
    return max(1, round(free / max(below_mm, above_mm))) if wide or pair.skipped else 0


def _is_scanners_own(pairs: Sequence[Pair], at: int, usual_mm: float) -> bool:
    """Whether a multiple of the usual distance is the scanner's own change of spacing."""
    pair = pairs[at]
    if pair.skipped and _are_numbered(pairs, usual_mm):
        return False
    long = run_length(pairs, at) >= MIN_RUN
    if pair.covered:
        return long or pair.skipped == 0
    thickness = pair.first.thickness
    gapped = thickness is None or usual_mm > (1 + SPACING_TOLERANCE) * thickness
    return long and (gapped or pair.skipped == 0)


def _are_numbered(pairs: Sequence[Pair], usual_mm: float) -> bool:
    """Whether instance numbers are consecutive at most of the usual distances."""
    steps = [pair.skipped for pair in pairs if alike(pair.mm, usual_mm)]
    return bool(steps) and 2 * steps.count(0) >= len(steps)


def _tracks(slices: Sequence[Slice]) -> list[Sequence[Slice]]:
    """The slices of each acquisition where acquisitions overlap in space; empty elsewhere."""
    groups: dict[float | None, list[Slice]] = defaultdict(list)
    for one in slices:
        groups[one.acquisition].append(one)
    ends = sorted((group[0].place, group[-1].place) for group in groups.values())
    if all(before[1] < after[0] for before, after in pairwise(ends)):
        return []
    return [group for group in groups.values() if len(group) > 1]

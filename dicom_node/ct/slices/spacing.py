"""Distances between neighbouring slices, and the usual distance among them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from dicom_node.ct.slices.geometry import SPACING_TOLERANCE

MAX_INSTANCE_NUMBER_STEP: Final = 10_000
"""Instance numbers further apart than this are not counted as skipped."""


@dataclass(frozen=True)
class Slice:
    """Position of one image according to its header.

    Attributes:
        index: Index among the images as given.
        place: Position along the normal, mm.
        thickness: Slice Thickness, mm; None where it is not stated.
        acquisition: Acquisition Number.
        number: Instance Number.
    """

    index: int
    place: float
    thickness: float | None
    acquisition: float | None
    number: float | None


@dataclass(frozen=True)
class Pair:
    """Two neighbouring slices.

    Attributes:
        first: The lower one.
        second: The upper one.
        skipped: Number of instance numbers between theirs that no image has; None if unknown.
    """

    first: Slice
    second: Slice
    skipped: int | None

    @property
    def mm(self) -> float:
        """Distance between their centres."""
        return self.second.place - self.first.place

    @property
    def covered(self) -> bool:
        """Whether their thickness covers the distance between them."""
        first, second = self.first.thickness, self.second.thickness
        if first is None or second is None:
            return False
        return self.mm <= (1 + SPACING_TOLERANCE) * (first + second) / 2


def pairs_of(slices: Sequence[Slice], numbers: Sequence[float]) -> list[Pair]:
    """Return the pairs of neighbours in a stack.

    Args:
        slices: Sorted by position.
        numbers: The instance numbers of the whole series, sorted, each once.
    """
    return [Pair(*two, _skipped(*two, numbers)) for two in pairwise(slices)]


def usual_distance(pairs: Sequence[Pair], thickness: float | None) -> float | None:
    """Return the most frequent distance, if at least half of the pairs share it.

    Ties go to consecutive instance numbers, then to the distance nearest to the thickness, then to
    the smallest one.
    """
    distances = np.array([pair.mm for pair in pairs])
    shared = [int(np.sum(np.abs(distances - mm) <= SPACING_TOLERANCE * mm)) for mm in distances]
    if not shared or 2 * max(shared) < len(shared):
        return None
    most = [pair for pair, count in zip(pairs, shared, strict=True) if count == max(shared)]

    def preference(pair: Pair) -> tuple[bool, float, float]:
        off = 0.0 if thickness is None else round(abs(pair.mm - thickness), 3)
        return pair.skipped != 0, off, pair.mm

    return min(most, key=preference).mm


def support(pairs: Sequence[Pair], mm: float | None) -> int:
    """Count the pairs that have a distance."""
    return sum(alike(pair.mm, mm) for pair in pairs)


def alike(one_mm: float | None, other_mm: float | None) -> bool:
    """Whether two distances are equal within the rounding of headers."""
    if one_mm is None or other_mm is None:
        return False
    return abs(one_mm - other_mm) <= SPACING_TOLERANCE * other_mm


def run_length(pairs: Sequence[Pair], at: int) -> int:
    """Return the number of consecutive equal distances around and including ``at``."""
    length = 1
    for side in (pairs[at + 1 :], pairs[:at][::-1]):
        for pair in side:
            if not alike(pair.mm, pairs[at].mm):
                break
            length += 1
    return length


def beside(pairs: Sequence[Pair], at: int) -> tuple[float | None, float | None]:
    """Return the distances shared by the two pairs before and behind; None where they differ."""
    return _shared(pairs[max(at - 2, 0) : at]), _shared(pairs[at + 1 : at + 3])


def _shared(two: Sequence[Pair]) -> float | None:
    if len(two) < 2 or not alike(two[0].mm, two[1].mm):
        return None
    return max(pair.mm for pair in two)


def _skipped(first: Slice, second: Slice, numbers: Sequence[float]) -> int | None:
    if first.number is None or second.number is None:
        return None
    low, high = sorted((first.number, second.number))
    if not 0 < high - low <= MAX_INSTANCE_NUMBER_STEP:
        return None
    return round(high - low) - 1 - (bisect_left(numbers, high) - bisect_right(numbers, low))

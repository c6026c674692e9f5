"""Neighbouring slices that a model sees beside each one: which count, and how they are read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median_low
from typing import Final

MAX_CONTEXT_SLICES: Final = 1
"""Most slices below, and as many above, that a model can see."""

SPACING_TOLERANCE: Final = 0.1
"""Greatest deviation of the distance of a neighbour from the usual one, as a fraction of it."""

MAX_DISTANCE_THICKNESSES: Final = 1.5
"""Greatest distance of a neighbour, in slice thicknesses: slices further apart show other
anatomy."""

Neighbours = tuple[tuple[int, int], ...]
"""For each slice the indices of those below and above it; its own where there is none."""


def check_context(slices: object) -> None:
    """Require a possible number of context slices.

    Raises:
        ValueError: It is none.
    """
    if type(slices) is not int or not 0 <= slices <= MAX_CONTEXT_SLICES:
        raise ValueError(f"context_slices must be 0 or {MAX_CONTEXT_SLICES}, not {slices!r}")


def neighbours_of(positions_mm: Sequence[float], thickness_mm: float | None) -> Neighbours:
    """Find the neighbours of each slice of a stack.

    A slice counts as neighbour if its distance is the usual one of the stack, the median, and not
    more than ``MAX_DISTANCE_THICKNESSES``. At the ends of the stack and beside a gap a slice is its
    own neighbour.

    Args:
        positions_mm: Positions along the normal, in the order of the slices, which is theirs.
        thickness_mm: Slice thickness; None: unknown, any usual distance will do.

    Example:
        >>> neighbours_of([0.0, 2.5, 5.0, 10.0], thickness_mm=2.5)
        ((0, 1), (0, 2), (1, 2), (3, 3))
    """
    if not positions_mm:
        return ()
    distances = [abs(after - before) for before, after in pairwise(positions_mm)]
    usual = median_low(distances) if distances else 0.0
    touching = [_touching(one, usual, thickness_mm) for one in distances]
    return tuple(
        (place - below, place + above)
        for place, (below, above) in enumerate(
            zip([False, *touching], [*touching, False], strict=True)
        )
    )


def alone(slices: int) -> Neighbours:
    """Return the neighbours of slices that have none but themselves."""
    return tuple((place, place) for place in range(slices))


def _touching(distance_mm: float, usual_mm: float, thickness_mm: float | None) -> bool:
    even = distance_mm > 0 and abs(distance_mm - usual_mm) <= SPACING_TOLERANCE * usual_mm
    return even and (thickness_mm is None or distance_mm <= MAX_DISTANCE_THICKNESSES * thickness_mm)

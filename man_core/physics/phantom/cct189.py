"""Low-contrast phantom after the CCT189 of the Phantom Laboratory ("MITA LCD").

Four discs in 200 mm of water, 40 mm from its centre, made for measuring the low-contrast
detectability of CT with model observers. The phantom has each disc once; here eight places on the
same circle take them in turn, which gives two regions of each disc an image with the same distance
from the edge, and so the same noise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from man_core.physics.phantom.rods import PIXEL_MM, SIZE, rod_phantom

WATER_RADIUS_MM = 100.0
CIRCLE_RADIUS_MM = 40.0
PLACES = 8


class Disc(NamedTuple):
    """A low-contrast disc.

    Attributes:
        diameter_mm: Diameter.
        contrast_hu: Difference to water.
    """

    diameter_mm: float
    contrast_hu: float


CCT189_DISCS = (Disc(3.0, 14.0), Disc(5.0, 7.0), Disc(7.0, 5.0), Disc(10.0, 3.0))


def cct189_water() -> NDArray[np.float32]:
    """Return a noise-free slice of the phantom without discs [row, column], HU."""
    return rod_phantom((), WATER_RADIUS_MM)


def cct189_places() -> tuple[tuple[int, int], ...]:
    """Return the centres of the places for discs (row, column), at whole pixels."""
    middle, radius = 0.5 * (SIZE - 1), CIRCLE_RADIUS_MM / PIXEL_MM
    angles = [2.0 * math.pi * (index + 0.5) / PLACES for index in range(PLACES)]
    return tuple(
        (round(middle + radius * math.sin(angle)), round(middle + radius * math.cos(angle)))
        for angle in angles
    )

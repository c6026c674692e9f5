"""Water phantom with rods, for measuring image quality.

Modelled on the phantoms of the American College of Radiology and of AAPM TG-233: rods of known
place and contrast for the task transfer function, water for noise and low-contrast detectability.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIZE = 256
PIXEL_MM = 0.8
"""205 mm across: a child's abdomen, and a quarter of the cost of 512 x 512 pixels."""

WATER_RADIUS_MM = 95.0
AIR_HU = -1000.0

EDGE_SIGMA_MM = 0.6
"""Gaussian blur of every edge: half of the contrast remains at 0.31 cycles/mm, as with standard
abdominal kernels."""


@dataclass(frozen=True)
class Rod:
    """A rod along z.

    Attributes:
        name: Material or contrast.
        x_mm: Distance of its centre from the phantom's centre, along a row.
        y_mm: The same along a column.
        radius_mm: Radius at half contrast.
        contrast_hu: Difference to water.
    """

    name: str
    x_mm: float
    y_mm: float
    radius_mm: float
    contrast_hu: float


RODS = (
    Rod("acrylic", 60.0, 0.0, 12.0, 120.0),
    Rod("polyethylene", -60.0, 0.0, 12.0, -95.0),
    Rod("40 HU", 0.0, 60.0, 12.0, 40.0),
    Rod("-40 HU", 0.0, -60.0, 12.0, -40.0),
)
"""Rods of high and low contrast, which a denoiser may not preserve equally."""

UNIFORM_RADIUS_MM = 45.0
"""Radius around the centre that contains only water."""


def rod_phantom(
    rods: tuple[Rod, ...] = RODS, water_radius_mm: float = WATER_RADIUS_MM
) -> NDArray[np.float32]:
    """Return a noise-free slice of rods in water [row, column], HU."""
    hu = AIR_HU - AIR_HU * _disc(0.0, 0.0, water_radius_mm)
    for rod in rods:
        hu += rod.contrast_hu * _disc(rod.x_mm, rod.y_mm, rod.radius_mm)
    return hu.astype(np.float32)


def centre_of(rod: Rod) -> tuple[float, float]:
    """Return the centre of a rod (row, column) in pixels."""
    middle = 0.5 * (SIZE - 1)
    return middle + rod.y_mm / PIXEL_MM, middle + rod.x_mm / PIXEL_MM


def uniform_water() -> NDArray[np.bool_]:
    """Return the mask [row, column] of the region that contains only water."""
    near: NDArray[np.bool_] = _distance_mm(0.0, 0.0) < UNIFORM_RADIUS_MM
    return near


def _distance_mm(x_mm: float, y_mm: float) -> NDArray[np.float64]:
    line = (np.arange(SIZE) - 0.5 * (SIZE - 1)) * PIXEL_MM
    distance: NDArray[np.float64] = np.hypot(line[:, None] - y_mm, line[None, :] - x_mm)
    return distance


def _disc(x_mm: float, y_mm: float, radius_mm: float) -> NDArray[np.float64]:
    """1 inside, 0 outside, with the edge's blur across it."""
    inside = radius_mm - _distance_mm(x_mm, y_mm)
    scaled = np.clip(inside / (math.sqrt(2.0) * EDGE_SIGMA_MM), -6.0, 6.0)
    disc: NDArray[np.float64] = 0.5 * (1.0 + np.vectorize(math.erf)(scaled))
    return disc

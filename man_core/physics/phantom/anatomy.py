"""Anatomy of a phantom: its shapes, vessels and lesions, and the parts that the trunk shares.

Lengths in mm, values in HU. x runs to the patient's left, y to the back, z to the head;
(0, 0, 0) is the middle of the series. Later shapes cover earlier ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from man_core.physics.phantom.shapes import Shape
from man_core.physics.phantom.vessels import Tree

THROUGH = float("inf")
"""Half axis along z of a shape that runs through the whole series."""


@dataclass(frozen=True)
class Lesion:
    """A lesion of known place, size and contrast.

    Attributes:
        at: Centre (x, y, z) in mm.
        radius_mm: Radius of the ball.
        hu: Value inside.
        background_hu: Value of the surrounding tissue.
        kind: Finding that it represents, for example ``cyst``.
        inside: Name of the organ that contains it.
    """

    at: tuple[float, float, float]
    radius_mm: float
    hu: float
    background_hu: float
    kind: str
    inside: str

    def shape(self) -> Shape:
        """Return the lesion as a shape to paint."""
        radii = (self.radius_mm, self.radius_mm, self.radius_mm)
        tissue = "blood" if self.hu > -200 else "lung"
        return Shape(self.hu, self.at, radii, tissue, inside=self.inside, uneven=0.02)


@dataclass(frozen=True)
class Anatomy:
    """One body part.

    Attributes:
        field_mm: Side of the field of view that shows it whole.
        slice_mm: Default slice distance.
        shapes: Painted in this order.
        lesions: Painted last.
        trees: Vessel trees, painted between shapes and lesions.
    """

    field_mm: float
    slice_mm: float
    shapes: tuple[Shape, ...]
    lesions: tuple[Lesion, ...]
    trees: tuple[Tree, ...] = field(default=())


def trunk(rx: float, ry: float, fat: float, wall: float) -> tuple[Shape, ...]:
    """Skin, fat and the muscular wall of the trunk around a cavity of fat."""
    shells = (
        (2.0, -102.0, "fat"),
        (fat, 58.0, "muscle"),
        (fat + 0.45 * wall, -98.0, "fat"),
        (fat + 0.45 * wall + 1.5, 60.0, "muscle"),
    )
    body = Shape(35.0, (0, 0, 0), (rx, ry, THROUGH), "", 0, shells, name="body", uneven=0.025)
    inner = fat + wall
    cavity = Shape(
        -103.0, (0, -4, 0), (rx - inner, ry - inner, THROUGH), "fat", name="cavity", uneven=0.025
    )
    return body, cavity


def spine(y: float) -> tuple[Shape, ...]:
    """A vertebra with its canal, pedicles and processes, and the muscles along it."""
    bone = ((1.6, 190.0, "marrow"),)
    shapes = []
    for side in (-1, 1):
        shapes += [
            Shape(57.0, (side * 30, y + 38, 0), (27, 19, THROUGH), "muscle", side * 12),
            Shape(430.0, (side * 19, y + 20, 0), (16, 5, THROUGH), "", side * 24, bone),
            Shape(430.0, (side * 12, y + 31, 0), (12, 4, THROUGH), "", side * 52, bone),
        ]
    return (
        *shapes,
        Shape(420.0, (0, y + 40, 0), (3.6, 17, THROUGH), "", 0, bone),
        Shape(480.0, (0, y, 0), (22, 16, THROUGH), "", 0, bone, name="vertebra"),
        Shape(460.0, (0, y + 21, 0), (13, 11, THROUGH), ""),
        Shape(-60.0, (0, y + 20, 0), (10.5, 8.5, THROUGH), "fat"),
        Shape(28.0, (0, y + 20, 0), (8, 6.5, THROUGH), "brain"),
    )


def rib_cage(rx: float, ry: float, angles: tuple[float, ...], lean: float) -> tuple[Shape, ...]:
    """Ribs cut obliquely along an ellipse; they wander along it from slice to slice."""
    marrow = ((1.3, 150.0, "marrow"),)
    ribs = []
    for degrees in angles:
        t = np.deg2rad(degrees)
        x, y = float(rx * np.cos(t)), float(ry * np.sin(t))
        tangent = float(np.rad2deg(np.arctan2(ry * np.cos(t), -rx * np.sin(t))))
        drift = (float(-lean * np.sin(t)) * float(np.sign(x)), float(lean * abs(np.cos(t))))
        ribs.append(Shape(620.0, (x, y, 0), (13, 4.4, THROUGH), "", tangent, marrow, drift=drift))
    return tuple(ribs)

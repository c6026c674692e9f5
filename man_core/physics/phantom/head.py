"""The head phantom: brain, ventricles and skull without contrast.

Tables of shapes in mm and HU; see ``anatomy`` for the axes.
"""

from __future__ import annotations

from man_core.physics.phantom.anatomy import Anatomy, Lesion
from man_core.physics.phantom.shapes import Shape


def head() -> Anatomy:
    """Brain at the level of the ventricles and the basal ganglia, without contrast."""
    skull = ((1.8, 620.0, "marrow"), (5.4, 1250.0, ""), (7.2, 12.0, "brain"))
    outer = (
        Shape(30.0, (0, 0, 0), (79, 99, 190), "", 0, ((2.2, -85.0, "fat"),), uneven=0.02),
        Shape(1300.0, (0, 0, 0), (73, 93, 150), "", 0, skull, uneven=0.02),
        Shape(38.0, (0, 0, 0), (64, 84, 130), "cortex", name="brain", uneven=0.02),
    )
    inner = [Shape(48.0, (0, 0, 0), (1.1, 83, 120), "", 0, uneven=0.0)]
    for side in (-1, 1):
        inner += [
            Shape(28.5, (side * 29, -1, 4), (22, 58, 80), "brain", side * 3, uneven=0.07),
            Shape(37.0, (side * 46, -4, -6), (7, 26, 40), "brain", side * 8, uneven=0.16),
            Shape(9.0, (side * 56, -10, -8), (3.2, 14, 24), "brain", side * 14, uneven=0.20),
            Shape(37.5, (side * 25, -6, -4), (9, 17, 22), "brain", side * -22, uneven=0.06),
            Shape(37.5, (side * 12, 13, -6), (9, 14, 18), "brain", side * 22, uneven=0.06),
            Shape(38.0, (side * 14, -24, 2), (6, 10, 24), "brain", side * 20, uneven=0.06),
            Shape(7.0, (side * 9.5, -22, 12), (4.5, 17, 32), "", side * -18, uneven=0.08),
            Shape(7.0, (side * 20, 34, 8), (5.5, 17, 26), "", side * -24, uneven=0.10),
            Shape(160.0, (side * 20, 36, 4), (2.4, 3.6, 6), "", uneven=0.10),
        ]
    centre = (
        Shape(7.0, (0, 2, -6), (2.2, 12, 16), ""),
        Shape(8.0, (0, 44, -8), (9, 5, 12), ""),
        Shape(58.0, (0, 84, 0), (5, 4, 120), "blood"),
    )
    lesions = (
        Lesion((-40, 24, 3), 7.0, 66.0, 28.5, "haemorrhage", "brain"),
        Lesion((38, -34, 6), 9.0, 20.0, 28.5, "old infarct", "brain"),
        Lesion((-28, -38, -9), 4.0, 42.0, 28.5, "small mass", "brain"),
        Lesion((26, -4, -3), 3.0, 16.0, 37.5, "lacune", "brain"),
    )
    return Anatomy(236.0, 3.0, (*outer, *inner, *centre), lesions)

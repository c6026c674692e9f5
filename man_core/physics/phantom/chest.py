"""The chest phantom: heart, lungs and their vessels in the portal venous phase.

Tables of shapes in mm and HU; see ``anatomy`` for the axes.
"""

from __future__ import annotations

from man_core.physics.phantom.anatomy import THROUGH, Anatomy, Lesion, rib_cage, spine, trunk
from man_core.physics.phantom.shapes import Shape
from man_core.physics.phantom.vessels import Tree


def _chest_wall() -> tuple[Shape, ...]:
    """Muscles of the shoulder girdle and the shoulder blades."""
    wall: list[Shape] = []
    for side in (-1, 1):
        wall += [
            Shape(56.0, (side * 66, -98, 0), (46, 8, THROUGH), "muscle", side * 17, inside="body"),
            Shape(56.0, (side * 119, 52, 0), (15, 33, THROUGH), "muscle", side * 44, inside="body"),
            Shape(
                560.0,
                (side * 118, 78, 24),
                (24, 4.2, 60),
                "",
                side * -48,
                ((1.4, 170.0, "marrow"),),
            ),
        ]
    return tuple(wall)


def _lungs() -> tuple[Shape, ...]:
    """Both lungs."""
    return (
        Shape(-850.0, (-74, 4, 0), (56, 84, 170), "lung", 7, inside="cavity", name="right lung"),
        Shape(-850.0, (78, 8, 0), (52, 82, 170), "lung", -7, inside="cavity", name="left lung"),
    )


def _mediastinum() -> tuple[Shape, ...]:
    """Heart, great vessels, bronchi and oesophagus."""
    chambers = ((9.0, 185.0, "blood"),)
    return (
        Shape(-95.0, (2, -8, 0), (40, 72, THROUGH), "fat", 0, inside="cavity", uneven=0.05),
        Shape(112.0, (24, -26, -14), (58, 42, 66), "organ", 28, chambers, "cavity", uneven=0.05),
        Shape(186.0, (-22, -24, -10), (26, 30, 55), "blood", -15, uneven=0.06),
        Shape(112.0, (18, -24, -20), (5, 40, 40), "organ", -32),
        Shape(182.0, (4, 12, -2), (34, 19, 36), "blood", uneven=0.06),
        Shape(192.0, (-10, -22, 30), (16, 16, 40), "blood"),
        Shape(196.0, (22, 38, 0), (13, 13, THROUGH), "blood", name="aorta"),
        Shape(45.0, (4, 36, 0), (9, 6, THROUGH), "organ", 0, ((3.5, -300.0, "bowel"),)),
        Shape(60.0, (-14, 22, 20), (9, 8, 40), "organ", 0, ((1.6, -1000.0, ""),), drift=(-0.3, 0)),
        Shape(
            60.0, (18, 20, 20), (8.5, 7.5, 40), "organ", 0, ((1.6, -1000.0, ""),), drift=(0.3, 0)
        ),
        Shape(170.0, (-38, 16, 6), (10, 9, 22), "blood", 30),
        Shape(170.0, (44, 20, 8), (10, 9, 22), "blood", -30),
    )


def _chest_lesions() -> tuple[Lesion, ...]:
    """Nodules and a lymph node."""
    return (
        Lesion((-88, -12, 3), 5.0, 35.0, -850.0, "solid nodule", "right lung"),
        Lesion((-62, 42, -9), 3.0, 30.0, -850.0, "small solid nodule", "right lung"),
        Lesion((98, 10, 9), 8.0, -620.0, -850.0, "ground-glass nodule", "left lung"),
        Lesion((88, 56, -3), 4.0, 40.0, -850.0, "solid nodule", "left lung"),
        Lesion((-18, 42, 6), 6.0, 70.0, -95.0, "lymph node", "body"),
    )


def _right_lung_vessels() -> tuple[Tree, ...]:
    """Arteries and veins of the right lung."""
    return tuple(
        Tree((-38, 14, z), (-1.0, y, dz), 4.6, 26.0, 110.0, "right lung", 6)
        for y, z, dz in ((-0.9, 8, 0.3), (0.5, 4, -0.5), (0.9, -6, 0.2), (-0.2, -18, -0.3))
    )


def _left_lung_vessels() -> tuple[Tree, ...]:
    """Arteries and veins of the left lung."""
    return tuple(
        Tree((46, 18, z), (1.0, y, dz), 4.4, 25.0, 110.0, "left lung", 6)
        for y, z, dz in ((-0.9, 10, 0.4), (0.4, 2, -0.5), (0.9, -8, 0.2))
    )


def chest() -> Anatomy:
    """Chest at the level of the heart and the lower hila."""
    sternum = Shape(380.0, (0, -98, 0), (19, 6.5, THROUGH), "", 0, ((1.4, 130.0, "marrow"),))
    ribs = rib_cage(137, 97, (8, 30, 52, 70, 110, 128, 150, 172, 198, 218, 236, 304, 322, 342), 0.5)
    shapes = (
        *trunk(176, 128, 17, 16),
        *_chest_wall(),
        *_lungs(),
        *_mediastinum(),
        sternum,
        *spine(66),
        *ribs,
    )
    vessels = (*_right_lung_vessels(), *_left_lung_vessels())
    return Anatomy(396.0, 3.0, shapes, _chest_lesions(), vessels)

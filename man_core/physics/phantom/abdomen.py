"""The abdomen phantom: liver, spleen, kidneys and bowel in the portal venous phase.

Tables of shapes in mm and HU; see ``anatomy`` for the axes.
"""

from __future__ import annotations

from man_core.physics.phantom.anatomy import THROUGH, Anatomy, Lesion, rib_cage, spine, trunk
from man_core.physics.phantom.shapes import Shape
from man_core.physics.phantom.vessels import Tree


def _kidney(x: float, y: float, z: float, angle: float) -> tuple[Shape, ...]:
    shells = ((7.0, 130.0, "organ"), (13.0, 60.0, "organ"), (16.5, -70.0, "fat"))
    name = "left kidney" if x > 0 else "right kidney"
    kidney = Shape(178.0, (x, y, z), (28, 23, 56), "organ", angle, shells, name=name, uneven=0.05)
    inward = -1 if x > 0 else 1
    return kidney, Shape(-90.0, (x + inward * 25, y - 5, z), (12, 7, 25), "fat", angle)


def _loop(x: float, y: float, z: float, r: float, content: float) -> Shape:
    """Loop of bowel: enhancing wall and content."""
    inner = ((2.2, content, "bowel"),)
    return Shape(85.0, (x, y, z), (r, 0.8 * r, 2.2 * r), "organ", 20 * x % 90, inner, uneven=0.10)


def _abdominal_organs() -> tuple[Shape, ...]:
    """Solid organs, stomach, great vessels and the muscles beside the spine."""
    return (
        Shape(112.0, (-62, -14, 10), (82, 72, 130), "organ", -20, inside="cavity", name="liver"),
        Shape(112.0, (6, -58, 20), (64, 27, 70), "organ", 8, inside="cavity", name="left lobe"),
        Shape(124.0, (112, 26, 12), (23, 46, 62), "organ", 16, inside="cavity", name="spleen"),
        *_kidney(-64, 48, -22, 25),
        *_kidney(68, 50, -14, -25),
        Shape(78.0, (66, -32, 14), (40, 33, 60), "organ", 30, ((4.0, 18.0, "bowel"),), "cavity"),
        Shape(-960.0, (60, -50, 14), (23, 10, 40), "", 8),
        Shape(102.0, (18, -8, -8), (48, 11, 22), "organ", -16, uneven=0.16),
        Shape(8.0, (-40, -52, -14), (16, 22, 26), "blood", 30, name="gallbladder"),
        Shape(58.0, (-37, 50, 0), (16, 19, THROUGH), "muscle", 20),
        Shape(58.0, (37, 50, 0), (16, 19, THROUGH), "muscle", -20),
        Shape(172.0, (10, 14, 0), (11.5, 11, THROUGH), "blood", name="aorta", drift=(0.02, 0.02)),
        Shape(150.0, (-21, 12, 0), (14, 10, THROUGH), "blood", 15),
        Shape(168.0, (4, -9, 0), (5.5, 5, THROUGH), "blood", drift=(0.1, -0.1)),
        Shape(160.0, (-26, -6, 10), (8, 7, 30), "blood"),
    )


def _bowel() -> tuple[Shape, ...]:
    """Loops of bowel with fluid, gas and oral contrast."""
    return tuple(
        _loop(*place)
        for place in (
            (40, -70, -30, 15, 30.0), (10, -74, -32, 14, 40.0), (84, -2, -26, 17, 25.0),
            (104, -40, -20, 17, -350.0), (-16, -76, -40, 17, 60.0), (52, 6, -34, 13, 35.0),
            (122, -14, -36, 13, 45.0), (24, -46, -38, 13, 190.0), (88, -62, -24, 15, 50.0),
        )
    )  # fmt: skip


def _abdominal_lesions() -> tuple[Lesion, ...]:
    """Lesions of liver, spleen and kidney."""
    return (
        Lesion((-88, -20, 4), 9.0, 62.0, 112.0, "hypodense metastasis", "liver"),
        Lesion((-64, 24, -9), 5.0, 72.0, 112.0, "hypodense metastasis", "liver"),
        Lesion((-106, 14, 15), 3.5, 82.0, 112.0, "small hypodense lesion", "liver"),
        Lesion((-48, -26, 18), 6.0, 142.0, 112.0, "enhancing lesion", "liver"),
        Lesion((115, 20, 6), 6.0, 96.0, 124.0, "hypodense lesion", "spleen"),
        Lesion((78, 66, -6), 7.0, 6.0, 178.0, "cyst", "left kidney"),
    )


def abdomen() -> Anatomy:
    """Upper abdomen at the level of liver, spleen and kidneys."""
    portal = Tree((-34, -8, 8), (-1.0, -0.1, 0.1), 6.0, 30.0, 158.0, "liver", 5)
    hepatic = Tree((-30, 12, 34), (-0.9, -0.4, -0.5), 5.0, 34.0, 150.0, "liver", 5)
    left = Tree((-4, -46, 12), (1.0, -0.2, 0.1), 3.2, 20.0, 152.0, "left lobe", 4)
    mesentery = Tree((10, -30, -34), (0.6, -0.4, -0.2), 3.0, 24.0, 120.0, "cavity", 4)
    ribs = rib_cage(146, 98, (4, 28, 50, 130, 152, 176, 205, 335), 0.55)
    shapes = (*trunk(172, 124, 15, 13), *_abdominal_organs(), *_bowel(), *spine(47), *ribs)
    return Anatomy(392.0, 3.0, shapes, _abdominal_lesions(), (portal, hepatic, left, mesentery))

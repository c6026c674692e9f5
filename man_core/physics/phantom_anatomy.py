"""What the phantoms are made of: chest, abdomen and head as tables of shapes, in mm and HU.

x runs to the patient's left, y to the back, z to the head; (0, 0, 0) is the middle of the series.
Portal venous phase (chest, abdomen) and plain CT (head). Later shapes cover earlier ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from man_core.physics.phantom_shapes import Shape
from man_core.physics.phantom_vessels import Tree

THROUGH = float("inf")


@dataclass(frozen=True)
class Lesion:
    """A lesion of known place, size and contrast.

    Attributes:
        at: Centre (x, y, z) in mm.
        radius_mm: Of the ball.
        hu: Inside.
        background_hu: Of the tissue around.
        kind: What it stands for.
        inside: Name of the organ it lies in.
    """

    at: tuple[float, float, float]
    radius_mm: float
    hu: float
    background_hu: float
    kind: str
    inside: str

    def shape(self) -> Shape:
        """The lesion as something to paint."""
        radii = (self.radius_mm, self.radius_mm, self.radius_mm)
        tissue = "blood" if self.hu > -200 else "lung"
        return Shape(self.hu, self.at, radii, tissue, inside=self.inside, uneven=0.02)


@dataclass(frozen=True)
class Anatomy:
    """A body part: field of view in mm, slice distance in mm, shapes, vessels, lesions."""

    field_mm: float
    slice_mm: float
    shapes: tuple[Shape, ...]
    lesions: tuple[Lesion, ...]
    trees: tuple[Tree, ...] = field(default=())


def _trunk(rx: float, ry: float, fat: float, wall: float) -> tuple[Shape, ...]:
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


def _spine(y: float) -> tuple[Shape, ...]:
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


def _ribs(rx: float, ry: float, angles: tuple[float, ...], lean: float) -> tuple[Shape, ...]:
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


def _kidney(x: float, y: float, z: float, angle: float) -> tuple[Shape, ...]:
    shells = ((7.0, 130.0, "organ"), (13.0, 60.0, "organ"), (16.5, -70.0, "fat"))
    name = "left kidney" if x > 0 else "right kidney"
    kidney = Shape(178.0, (x, y, z), (28, 23, 56), "organ", angle, shells, name=name, uneven=0.05)
    inward = -1 if x > 0 else 1
    return kidney, Shape(-90.0, (x + inward * 25, y - 5, z), (12, 7, 25), "fat", angle)


def _loop(x: float, y: float, z: float, r: float, content: float) -> Shape:
    """A bowel loop: enhancing wall and what is in it."""
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
    ribs = _ribs(146, 98, (4, 28, 50, 130, 152, 176, 205, 335), 0.55)
    shapes = (*_trunk(172, 124, 15, 13), *_abdominal_organs(), *_bowel(), *_spine(47), *ribs)
    return Anatomy(392.0, 3.0, shapes, _abdominal_lesions(), (portal, hepatic, left, mesentery))


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
    ribs = _ribs(137, 97, (8, 30, 52, 70, 110, 128, 150, 172, 198, 218, 236, 304, 322, 342), 0.5)
    shapes = (
        *_trunk(176, 128, 17, 16),
        *_chest_wall(),
        *_lungs(),
        *_mediastinum(),
        sternum,
        *_spine(66),
        *ribs,
    )
    vessels = (*_right_lung_vessels(), *_left_lung_vessels())
    return Anatomy(396.0, 3.0, shapes, _chest_lesions(), vessels)


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

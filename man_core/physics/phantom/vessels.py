"""Branching vessels as chains of points, for the lungs and the liver."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tree:
    """Parameters of a vessel tree; lengths in mm.

    Attributes:
        root: Start of the trunk (x, y, z).
        towards: Direction of the first branches (x, y, z).
        radius: Radius of the trunk.
        length: Length of the trunk.
        hu: Value of blood.
        inside: Name of the organ that clips it.
        generations: Number of branchings.
    """

    root: tuple[float, float, float]
    towards: tuple[float, float, float]
    radius: float
    length: float
    hu: float
    inside: str
    generations: int = 6


def grow(tree: Tree, rng: np.random.Generator) -> NDArray[np.float64]:
    """Grow a tree; return points [point, (x, y, z, radius)] along all branches, in mm."""
    branches = [(np.array(tree.root), np.array(tree.towards), tree.radius, tree.length)]
    points: list[NDArray[np.float64]] = []
    for _ in range(tree.generations):
        following = []
        for start, direction, radius, length in branches:
            path = _path(start, direction, radius, length, rng)
            points.append(path)
            for share in (0.55, 1.0, 1.0):
                turned = _unit(_unit(direction) + 0.55 * rng.standard_normal(3))
                origin = path[int(share * (len(path) - 1)), :3]
                shrink = rng.uniform(0.62, 0.82)
                following.append((origin, turned, radius * shrink, length * rng.uniform(0.75, 1.0)))
        branches = following
    return np.concatenate(points)


def cross_section(points: NDArray[np.float64], z: float, smallest: float) -> NDArray[np.float64]:
    """Return the discs [disc, (x, y, radius)] in which a plane cuts the balls around the points."""
    squared = points[:, 3] ** 2 - (points[:, 2] - z) ** 2
    cut = points[squared > smallest**2]
    return np.column_stack((cut[:, :2], np.sqrt(squared[squared > smallest**2])))


def _path(
    start: NDArray[np.float64],
    direction: NDArray[np.float64],
    radius: float,
    length: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Sample a gently bent branch that tapers by a fifth, every half radius."""
    count = max(int(length / (0.5 * radius)), 2)
    bend = 0.25 * rng.standard_normal(3)
    along = np.linspace(0.0, 1.0, count)[:, None]
    heading = _unit(direction) + along * bend
    centres = start + along * length * heading
    return np.column_stack((centres, radius * (1.0 - 0.2 * along[:, 0])))


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = vector / max(float(np.linalg.norm(vector)), 1e-9)
    return unit

"""CT series of simulated patients whose noise-free truth is known, for demo and tests.

They contain no patient data: outlines are ellipsoids with uneven edges, textures are random
fields, and vessels grow at random from a seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from man_core.physics.low_dose import insert_noise
from man_core.physics.phantom.abdomen import abdomen
from man_core.physics.phantom.anatomy import Anatomy, Lesion
from man_core.physics.phantom.chest import chest
from man_core.physics.phantom.head import head
from man_core.physics.phantom.shapes import Canvas, Shape, Textures, paint_discs, paint_shape
from man_core.physics.phantom.vessels import cross_section, grow
from man_core.volume import Volume

AnatomyName = Literal["chest", "abdomen", "head"]

AIR_HU = -1000.0

_ANATOMIES = {
    "chest": chest,
    "abdomen": abdomen,
    "head": head,
}
_TABLE_HU = (-180.0, -930.0)


@dataclass(frozen=True)
class DosePair:
    """A phantom series without noise, at full dose and at low dose.

    Attributes:
        truth: Noise-free series.
        full: Truth plus the noise of the full dose.
        low: Truth plus independent noise of a fraction of that dose.
    """

    truth: Volume
    full: Volume
    low: Volume


def phantom_series(
    anatomy: AnatomyName,
    *,
    slices: int = 24,
    size: int = 512,
    spacing_mm: tuple[float, float, float] | None = None,
    seed: int = 0,
) -> Volume:
    """Simulate a noise-free CT series of a patient.

    Args:
        anatomy: Body part.
        slices: Number of slices.
        size: Rows and columns.
        spacing_mm: Distance of (slices, rows, columns); rows and columns must be equal. None: 3 mm
            slices, and pixels that show the whole body part at any size.
        seed: Seed of textures, vessels and outlines: another seed is another patient.

    Returns:
        Volume [slice, row, column] in HU.

    Raises:
        ValueError: The body part is unknown or the pixels are not square.
    """
    plan = _plan(anatomy)
    spacing = spacing_mm or (plan.slice_mm, plan.field_mm / size, plan.field_mm / size)
    if spacing[1] != spacing[2]:
        raise ValueError(f"A phantom has square pixels, got spacing {spacing}.")
    heights = (np.arange(slices, dtype=np.float64) - 0.5 * (slices - 1)) * float(spacing[0])
    hu = _paint(
        plan, np.asarray(heights, np.float64), size, spacing[1], np.random.default_rng(seed)
    )
    return Volume(hu, spacing, _affine(spacing, slices, size))


def phantom_lesions(anatomy: AnatomyName) -> tuple[Lesion, ...]:
    """Return the lesions of a phantom, with centres (x, y, z) in mm in its patient coordinates."""
    return _plan(anatomy).lesions


def low_dose_phantom(
    anatomy: AnatomyName,
    *,
    dose: float = 0.25,
    noise_hu: float = 12.0,
    cutoff: float = 1.2,
    slices: int = 24,
    size: int = 512,
    seed: int = 0,
) -> DosePair:
    """Simulate a patient without noise, at full dose and at low dose.

    Args:
        anatomy: Body part.
        dose: Low dose as a fraction of the full dose.
        noise_hu: Noise of the full dose in soft tissue, HU.
        cutoff: Texture of the noise, see ``man_core.noise_texture``.
        slices: Number of slices.
        size: Rows and columns.
        seed: Seed of patient and noise.

    Raises:
        ValueError: The body part is unknown or the dose is not between 0 and 1.
    """
    truth = phantom_series(anatomy, slices=slices, size=size, seed=seed)
    full = _noisy(truth, 0.5, noise_hu, cutoff, seed + 1)
    # Relative to half the dose, at which insertion into a noise-free image adds noise_hu.
    added = noise_hu / np.sqrt(dose) / np.sqrt(1.0 / (0.5 * dose) - 1.0)
    return DosePair(truth, full, _noisy(truth, 0.5 * dose, float(added), cutoff, seed + 2))


def _noisy(truth: Volume, dose: float, noise_hu: float, cutoff: float, seed: int) -> Volume:
    generator = torch.Generator().manual_seed(seed)
    low = [
        insert_noise(
            torch.from_numpy(truth.hu[index : index + 1].copy()),
            truth.spacing_mm[1],
            dose=dose,
            noise_hu=noise_hu,
            cutoff=cutoff,
            generator=generator,
            electronic=0.0,
        )
        for index in range(truth.shape[0])
    ]
    return truth.with_hu(torch.cat(low).numpy())


def _plan(anatomy: str) -> Anatomy:
    if anatomy not in _ANATOMIES:
        raise ValueError(f"There is no phantom of {anatomy!r}; use one of {', '.join(_ANATOMIES)}.")
    return _ANATOMIES[anatomy]()


def _paint(
    plan: Anatomy,
    heights: NDArray[np.float64],
    size: int,
    pixel_mm: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    textures = Textures(size, pixel_mm, heights, rng)
    shapes = (*plan.shapes, *(lesion.shape() for lesion in plan.lesions))
    wobbles = rng.uniform(0.0, 2.0 * np.pi, (len(shapes), 4))
    trees = [(tree, grow(tree, rng)) for tree in plan.trees]
    line = ((np.arange(size) - 0.5 * (size - 1)) * pixel_mm).astype(np.float32)
    y, x = np.meshgrid(line, line, indexing="ij")
    back = np.clip(y / 180.0 + 0.5, 0.0, 1.0)
    volume = np.empty((len(heights), size, size), dtype=np.float32)
    for index, z in enumerate(heights):
        air = np.full((size, size), AIR_HU, dtype=np.float32)
        canvas = Canvas(air, x, y, pixel_mm, textures.tissues(float(z), back))
        _paint_table(canvas, plan)
        lesions = len(plan.lesions)
        _paint_shapes(canvas, shapes[:-lesions], float(z), wobbles[:-lesions])
        for tree, points in trees:
            discs = cross_section(points, float(z), 0.25 * pixel_mm)
            paint_discs(canvas, discs, tree.hu, tree.inside)
        _paint_shapes(canvas, shapes[-lesions:], float(z), wobbles[-lesions:])
        volume[index] = canvas.hu
    return np.maximum(volume, AIR_HU)


def _paint_shapes(
    canvas: Canvas, shapes: tuple[Shape, ...], z: float, wobbles: NDArray[np.float64]
) -> None:
    for shape, wobble in zip(shapes, wobbles, strict=True):
        paint_shape(canvas, shape, z, wobble)


def _paint_table(canvas: Canvas, plan: Anatomy) -> None:
    """Paint the patient table: a curved shell of carbon fibre filled with foam."""
    wide = 0.50 * plan.field_mm
    below = 0.5 * max(2 * shape.radii[1] for shape in plan.shapes) + 3.0
    shells = ((2.0, _TABLE_HU[1], ""),)
    table = Shape(_TABLE_HU[0], (0, below + 15, 0), (wide, 14, np.inf), "", 0, shells, uneven=0.0)
    paint_shape(canvas, table, 0.0, np.zeros(4))


def _affine(spacing: tuple[float, float, float], slices: int, size: int) -> NDArray[np.float64]:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing, 1.0
    middle = np.array([0.5 * (slices - 1), 0.5 * (size - 1), 0.5 * (size - 1)])
    affine[:3, 3] = -affine[:3, :3] @ middle
    return affine

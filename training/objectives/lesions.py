"""Low-contrast lesions for crops, alike in full and low dose, so that their truth is known.

A network whose loss sees anatomy and noise only learns that what is faint is noise. Planted lesions
are faint, and not noise (cf. the inserted lesions of ``man_core.quality.lesions``, which measure).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

RADIUS_PIXELS = (2.0, 10.0)
"""Smallest and largest radius: diameters of 3 to 15 mm at pixels of 0.75 mm."""

CONTRAST_HU = (10.0, 100.0)
"""Smallest and largest contrast, brighter or darker; drawn evenly in the logarithm."""

EDGE_PIXELS = (0.4, 1.5)
"""Sharpest and softest edge: scale of the logistic function."""

RING_PIXELS = (1.5, 5.5)
"""Distances from the edge between which lies the tissue a lesion is compared with."""

TISSUE_HU = (-30.0, 160.0)
"""Local mean of the tissue around the centre of a lesion."""

TISSUE_PIXELS = 9
"""Side of the square of that mean."""

DRAWS = 8
"""Places drawn for a lesion; none is planted where all lie outside soft tissue."""


@dataclass(frozen=True)
class Lesions:
    """Lesions in the crops of a batch.

    Attributes:
        hu: What they add to full and low dose [batch, 1, row, column], HU.
        contrast_hu: Contrast [batch, lesion], HU; 0 where none was planted.
        weights: [batch, lesion, row, column]: 1 / area in the disc, -1 / area in the ring around
            it, so that the sum of an image times the weights is the contrast in it.
    """

    hu: Tensor
    contrast_hu: Tensor
    weights: Tensor

    def contrast_in(self, hu: Tensor) -> Tensor:
        """Return the contrast [batch, lesion] of the lesions in crops [batch, 1, row, column]."""
        return (hu * self.weights).sum(dim=(2, 3))


def draw_lesions(full: Tensor, count: int, generator: torch.Generator) -> Lesions:
    """Draw lesions in soft tissue.

    Args:
        full: Full dose [batch, 1, row, column], HU.
        count: Lesions in each crop.
        generator: Random numbers on the device of the crops.
    """
    rows, columns = full.shape[-2:]

    def drawn(limits: tuple[float, float]) -> Tensor:
        low, high = (math.log(limit) for limit in limits)
        chance = torch.rand((len(full), count), generator=generator, device=full.device)
        return torch.exp(low + (high - low) * chance)

    radius, edge, size = drawn(RADIUS_PIXELS), drawn(EDGE_PIXELS), drawn(CONTRAST_HU)
    sign = torch.rand(size.shape, generator=generator, device=full.device) < 0.5
    row, column, inside = _places(full, radius, generator)
    contrast = torch.where(sign, size, -size) * inside
    down = torch.arange(rows, device=full.device)[:, None] - row[:, :, None, None]
    across = torch.arange(columns, device=full.device) - column[:, :, None, None]
    beyond = (down**2 + across**2).sqrt() - radius[:, :, None, None]
    discs = torch.sigmoid(-beyond / edge[:, :, None, None])
    added = (discs * contrast[:, :, None, None]).sum(dim=1, keepdim=True)
    return Lesions(added, contrast, _weights(beyond))


def planted_beside(
    neighbours: Tensor, low: Tensor, lesions: Lesions, generator: torch.Generator
) -> Tensor:
    """Add a drawn share of the lesions to the slices beside each crop.

    How far a lesion reaches along z depends on its size and on the spacing: from not at all to
    through both neighbours. A slice that stands in for its own neighbour shows all of it.

    Args:
        neighbours: Slices beside each crop [batch, neighbour, row, column], HU.
        low: Low dose [batch, 1, row, column] without lesions, HU.
        lesions: Lesions planted in the crops.
        generator: Random numbers on the device of the crops.
    """
    share = torch.rand(neighbours.shape[:2], generator=generator, device=neighbours.device)
    alone = (neighbours == low).flatten(2).all(dim=2)
    return neighbours + torch.where(alone, 1.0, share)[:, :, None, None] * lesions.hu


def _places(
    full: Tensor, radius: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw centres; return rows, columns [batch, lesion] and whether they lie in soft tissue."""
    batch, count = radius.shape
    rows, columns = full.shape[-2:]
    margin = radius[:, :, None] + RING_PIXELS[1]
    chance = torch.rand((2, batch, count, DRAWS), generator=generator, device=full.device)
    row = (margin + chance[0] * (rows - 1 - 2 * margin)).round()
    column = (margin + chance[1] * (columns - 1 - 2 * margin)).round()
    smooth = F.avg_pool2d(full, TISSUE_PIXELS, 1, TISSUE_PIXELS // 2, count_include_pad=False)
    index = (row * columns + column).long().clamp(0, rows * columns - 1)
    mean = smooth.flatten(1).gather(1, index.flatten(1)).view_as(index)
    tissue = (mean > TISSUE_HU[0]) & (mean < TISSUE_HU[1]) & (2 * margin < min(rows, columns) - 1)
    first = tissue.int().argmax(dim=2, keepdim=True)
    return (
        row.gather(2, first)[:, :, 0],
        column.gather(2, first)[:, :, 0],
        tissue.any(dim=2),
    )


def _weights(beyond: Tensor) -> Tensor:
    """Compute ``Lesions.weights`` from the distance beyond the edge."""
    disc = (beyond <= -0.5).to(beyond.dtype)
    ring = ((beyond >= RING_PIXELS[0]) & (beyond <= RING_PIXELS[1])).to(beyond.dtype)
    return _mean(disc) - _mean(ring)


def _mean(mask: Tensor) -> Tensor:
    return mask / mask.sum(dim=(2, 3), keepdim=True).clamp(min=1.0)

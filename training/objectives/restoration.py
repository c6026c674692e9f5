"""Loss of the decoded prediction against full dose, every term in units of the low dose's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchmetrics.functional.image import structural_similarity_index_measure

from man_core.hu import HuRange
from training.objectives.perceptual import (
    FLOOR_HU,
    WINDOWS_HU,
    FeatureExtractor,
    feature_distance,
    windowed,
)

SOFT_TISSUE_SHARE = 0.6
"""Share of crops compared in the soft-tissue window; the others draw lung or bone alike."""

MEAN_PIXELS = (8, 16, 32)
"""Edges of the squares whose means are compared. A lesion's contrast lives in the small ones, where
noise does not; in the large ones a bias of a tissue stands out of what noise is left. Together they
weigh the slow part of the noise, which the pixels alone hardly see and readers call plastic."""

SSIM_SIGMA = 1.5
"""Pixels of the Gaussian in structural similarity (Wang et al. 2004)."""

PIXEL_FLOOR = (1e-4, 7.1e-6, 2.7e-6)
STRUCTURE_FLOOR = (0.028, 0.0063, 0.0025)
"""What ``FLOOR_HU`` of white noise make of both distances in each of ``WINDOWS_HU``: measured at
6 HU, and scaled by the square, and for structure by the 0.47 that was measured between both."""

MEAN_FLOOR = (1.0, 0.5, 0.25)
"""Of the means in squares of each size, HU squared; more than white noise makes, for CT noise is
slower."""

NOISE_SHARE = 0.7
"""To the low dose's own distance is added the floor, times the square of this share of its noise
over ``FLOOR_HU``. Without it a full dose given as input, whose distance is zero, would outweigh all
other crops; and where noise may be that of a full dose or that of a low dose of a quieter one,
the first, whose distance is the smaller, would have the say and noise would stay in. Structure and
features do not grow with the square: the louder a crop, the less they weigh beside the pixels, for
where the full dose itself is loud they ask for noise, not for anatomy."""


class RestorationObjective(BaseModel):
    """Weights of the terms; a term is at most 1 where the result is the low dose.

    Attributes:
        pixel: Of the squared error in a window.
        structure: Of 1 - SSIM in a window.
        feature: Of the feature distance in a window (eq. 2 of the MAN paper, on the result).
        mean: Of the squared error of local means, over the whole HU range; the sizes count alike.
        feature_crops: Crops of a batch on which the feature distance is measured.
        feature_pixels: Edge of the corner of those crops that it sees.
        feature_weights: File of VGG-16 weights; None takes the gradient fallback.
    """

    model_config = ConfigDict(extra="forbid")

    pixel: float = Field(default=2.0, ge=0)
    structure: float = Field(default=1.0, ge=0)
    feature: float = Field(default=0.5, ge=0)
    mean: float = Field(default=0.5, ge=0)
    feature_crops: int = Field(default=4, ge=1)
    feature_pixels: int = Field(default=96, ge=16)
    feature_weights: str | None = None


def restoration_loss(
    features: FeatureExtractor,
    restored: Tensor,
    low: Tensor,
    full: Tensor,
    noise_hu: Tensor,
    objective: RestorationObjective,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Weighted sum ``restoration`` of the terms, and the terms.

    Args:
        features: What the feature distance compares of images in [0, 1].
        restored: Result [batch, 1, row, column], HU.
        low: Its low dose, same shape.
        full: Full dose, same shape; as stored, for what the network sees is clipped as well: noise
            below -1024 HU as truth would pull the mean of air and lung down.
        noise_hu: Noise of the low dose [batch], HU.
        objective: Weights.
        generator: Source of the windows.
    """
    low, full = (hu.clip(HuRange().low, HuRange().high) for hu in (low, full))
    choice = _windows(full, generator)
    images = [windowed(hu, choice) for hu in (restored, low, full)]
    seen = _seen(features, images, objective)
    louder = (NOISE_SHARE * noise_hu / FLOOR_HU).clamp(min=1.0).square()
    feature_floor = (louder * _of(features.floor, choice))[: objective.feature_crops]
    terms = {
        "pixel": _ratio(_squared, images, louder * _of(PIXEL_FLOOR, choice)),
        "structure": _ratio(_dissimilarity, images, louder * _of(STRUCTURE_FLOOR, choice)),
        "feature": _ratio(feature_distance, seen, feature_floor),
        "mean": _means((restored, low, full), louder),
    }
    total = sum(getattr(objective, name) * term for name, term in terms.items())
    return {"restoration": total, **terms}


def _windows(hu: Tensor, generator: torch.Generator) -> Tensor:
    """Index in ``WINDOWS_HU`` [batch]."""
    other = torch.randint(1, len(WINDOWS_HU), (len(hu),), generator=generator, device=hu.device)
    chance = torch.rand(len(hu), generator=generator, device=hu.device)
    return torch.where(chance < SOFT_TISSUE_SHARE, 0, other)


def _seen(
    features: FeatureExtractor, images: Sequence[Tensor], objective: RestorationObjective
) -> list[list[Tensor]]:
    """Features of corners of some crops; only those of the result carry a gradient."""
    edge = slice(objective.feature_pixels)
    restored, *others = (x[: objective.feature_crops, :, edge, edge] for x in images)
    with torch.no_grad():
        fixed = [features(image) for image in others]
    return [features(restored), *fixed]


def _of(values: Sequence[float], choice: Tensor) -> Tensor:
    return torch.tensor(values, device=choice.device)[choice]


def _ratio(distance: Callable[[Any, Any], Tensor], images: Sequence[Any], floor: Tensor) -> Tensor:
    """Distance of the result to full dose over that of the low dose, averaged over crops."""
    restored, low, full = images
    with torch.no_grad():
        untouched = distance(low, full) + floor
    return (distance(restored, full) / untouched).mean()


def _squared(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean(dim=(1, 2, 3))


def _means(images: Sequence[Tensor], louder: Tensor) -> Tensor:
    """The ratio for local means, averaged over the sizes of squares."""
    ratios = [
        _ratio(partial(_squared_mean, pixels=pixels), images, louder * floor)
        for pixels, floor in zip(MEAN_PIXELS, MEAN_FLOOR, strict=True)
    ]
    return torch.stack(ratios).mean()


def _squared_mean(a: Tensor, b: Tensor, pixels: int) -> Tensor:
    means = F.avg_pool2d(a - b, min(pixels, *a.shape[-2:]))
    return means.square().mean(dim=(1, 2, 3))


def _dissimilarity(a: Tensor, b: Tensor) -> Tensor:
    similarity = structural_similarity_index_measure(
        a, b, sigma=SSIM_SIGMA, data_range=1.0, reduction="none"
    )
    assert isinstance(similarity, Tensor)
    return 1 - similarity

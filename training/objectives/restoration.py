"""Loss of the decoded prediction against full dose, in units of the loss of the low dose."""

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
from training.objectives.constants import constant
from training.objectives.lesions import Lesions
from training.objectives.noise_shape import uneven_noise
from training.objectives.perceptual import (
    FLOOR_HU,
    WINDOWS_HU,
    FeatureExtractor,
    feature_distance,
    windowed,
)

SOFT_TISSUE_SHARE = 0.6
"""Share of crops compared in the soft-tissue window; the others are split between lung and bone."""

MEAN_PIXELS = (8, 16, 32)
"""Sides of the squares whose means are compared. Small ones show the contrast of a lesion without
noise; in large ones the bias of a tissue stands out from the remaining noise. Together they weight
the slow part of the noise, which the pixel term hardly measures and readers call plastic."""

SSIM_SIGMA = 1.5
"""Standard deviation of the Gaussian in structural similarity, pixels (Wang et al. 2004)."""

PIXEL_FLOOR = (1e-4, 7.1e-6, 2.7e-6)
STRUCTURE_FLOOR = (0.028, 0.0063, 0.0025)
"""Both distances that ``FLOOR_HU`` of white noise cause in each of ``WINDOWS_HU``: measured at 6 HU
and scaled by the square, and for structure by the measured factor 0.47."""

MEAN_FLOOR = (1.0, 0.5, 0.25)
"""The same for means over squares of each size, HU^2; more than for white noise, since CT noise is
slower."""

NOISE_SHARE = 0.7
"""The floor, times the square of this share of the noise over ``FLOOR_HU``, is added to the
distance of the low dose.

Without it a full dose as input, whose distance is zero, would outweigh all other crops; and where
noise may belong to a full dose or to the low dose of a quieter one, the first, whose distance is
smaller, would dominate and noise would remain. Structure and features do not grow with the square:
the noisier a crop, the less they count beside the pixels, since with a noisy full dose they favour
noise over anatomy."""


MIN_CONTRAST_HU = 10.0
"""Added to the contrast of a lesion, so that the faintest ones do not outweigh all others."""


TRANSFER_FLOOR = 50.0 * MIN_CONTRAST_HU**2
"""Added to the energy of the lesions of a crop, HU^2: fifty pixels of the faintest."""


HALF_NOISE_HU = 40.0
"""Noise in a crop at which transfer and shape of the noise count half: the louder a crop, the less
faint contrast there is to keep, and the more noise would be left with it."""


class RestorationObjective(BaseModel):
    """Weights of the terms; each term is at most 1 for the low dose as result.

    Attributes:
        pixel: Weight of the squared error in a window.
        structure: Weight of 1 - SSIM in a window.
        feature: Weight of the feature distance in a window (eq. 2 of the MAN paper, on the result).
        mean: Weight of the squared error of local means over the whole HU range, all sizes equally.
        contrast: Weight of the squared error of the contrast of planted lesions, relative to it.
        transfer: Weight of the squared error of what planted lesions change in the result, relative
            to their energy. The result without them is computed from the same noise, so that
            noise does not count, edges and surroundings do.
        noise_shape: Weight of ``uneven_noise``: noise is left evenly over spatial frequency.
        feature_crops: Crops per batch for the feature distance.
        feature_pixels: Side of the corner of those crops that it uses.
        feature_weights: File of VGG-16 weights; None: the gradient fallback.
    """

    model_config = ConfigDict(extra="forbid")

    pixel: float = Field(default=2.0, ge=0)
    structure: float = Field(default=1.0, ge=0)
    feature: float = Field(default=0.5, ge=0)
    mean: float = Field(default=0.5, ge=0)
    contrast: float = Field(default=0.0, ge=0)
    transfer: float = Field(default=0.0, ge=0)
    noise_shape: float = Field(default=0.0, ge=0)
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
    lesions: Lesions | None = None,
    unplanted: Tensor | None = None,
    opposed: Tensor | None = None,
) -> dict[str, Tensor]:
    """Compute the weighted sum ``restoration`` of the terms, and the terms.

    Args:
        features: Feature extractor for images in [0, 1].
        restored: Result [batch, 1, row, column], HU.
        low: Low dose, same shape; clipped to the HU range here.
        full: Full dose, same shape; clipped here like the input of the network: noise below
            -1024 HU in the truth would lower the mean of air and lung.
        noise_hu: Noise of the low dose [batch], HU.
        objective: Weights.
        generator: Source of the windows.
        lesions: Lesions planted in the crops; None: none.
        unplanted: Result without them, from the same noise; None: transfer is not compared.
        opposed: Result from the same crops with noise of the opposite sign; None: the shape of the
            noise is not compared.
    """
    noise = low - full
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
    if lesions is not None:
        terms["contrast"] = _contrast(lesions, restored, full)
    terms |= _differences(restored, unplanted, opposed, lesions, noise, noise_hu)
    total = sum(getattr(objective, name) * term for name, term in terms.items())
    return {"restoration": total, **terms}


def _differences(
    restored: Tensor,
    unplanted: Tensor | None,
    opposed: Tensor | None,
    lesions: Lesions | None,
    noise: Tensor,
    noise_hu: Tensor,
) -> dict[str, Tensor]:
    """Compute the terms on the difference of two results, in which anatomy cancels."""
    terms = {}
    quiet = 1.0 / (1.0 + (noise_hu / HALF_NOISE_HU).square())
    if lesions is not None and unplanted is not None:
        terms["transfer"] = _transfer(lesions, restored - unplanted, quiet)
    if opposed is not None:
        terms["noise_shape"] = uneven_noise((restored - opposed) / 2, noise, quiet)
    return terms


def _contrast(lesions: Lesions, restored: Tensor, full: Tensor) -> Tensor:
    size = lesions.contrast_hu.abs()
    error = lesions.contrast_in(restored - full) / (size + MIN_CONTRAST_HU)
    planted = (size > 0).to(error.dtype)
    return (planted * error.square()).sum() / planted.sum().clamp(min=1.0)


def _transfer(lesions: Lesions, change: Tensor, weight: Tensor) -> Tensor:
    energy = lesions.hu.square().sum(dim=(1, 2, 3))
    error = (change - lesions.hu).square().sum(dim=(1, 2, 3)) / (energy + TRANSFER_FLOOR)
    planted = (energy > 0).to(error.dtype)
    return (planted * weight * error).sum() / planted.sum().clamp(min=1.0)


def _windows(hu: Tensor, generator: torch.Generator) -> Tensor:
    """Draw indices [batch] in ``WINDOWS_HU``."""
    other = torch.randint(1, len(WINDOWS_HU), (len(hu),), generator=generator, device=hu.device)
    chance = torch.rand(len(hu), generator=generator, device=hu.device)
    return torch.where(chance < SOFT_TISSUE_SHARE, 0, other)


def _seen(
    features: FeatureExtractor, images: Sequence[Tensor], objective: RestorationObjective
) -> list[list[Tensor]]:
    """Compute features of corners of some crops; only those of the result have a gradient."""
    edge = slice(objective.feature_pixels)
    restored, *others = (x[: objective.feature_crops, :, edge, edge] for x in images)
    with torch.no_grad():
        fixed = [features(image) for image in others]
    return [features(restored), *fixed]


def _of(values: tuple[float, ...], choice: Tensor) -> Tensor:
    return constant(values, choice.device)[choice]


def _ratio(distance: Callable[[Any, Any], Tensor], images: Sequence[Any], floor: Tensor) -> Tensor:
    """Average over crops the distance of the result to full dose over that of the low dose."""
    restored, low, full = images
    with torch.no_grad():
        untouched = distance(low, full) + floor
    return (distance(restored, full) / untouched).mean()


def _squared(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean(dim=(1, 2, 3))


def _means(images: Sequence[Tensor], louder: Tensor) -> Tensor:
    """Average the ratio for local means over the sizes of squares."""
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

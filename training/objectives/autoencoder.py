"""Loss of stage one (MAN paper, eq. 1 to 3)."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from man_core.hu import HuRange
from man_core.nets.autoencoder import Autoencoder
from training.objectives.perceptual import WINDOWS_HU, feature_distance, windowed

PURE_RECONSTRUCTION = 0.05
"""Share of the fit before ramped terms start (30 of 600 epochs in the paper, decision 0002)."""

FULL_WEIGHT = 0.5
"""Share of the fit after which ramped terms have full weight (300 of 600 epochs)."""


class AutoencoderObjective(BaseModel):
    """Weights of the loss terms; all are means (per pixel, latent element, feature), decision 0002.

    Attributes:
        mse: Weight of the squared error in [-1, 1].
        l1: Weight of the absolute error in [-1, 1].
        kl: Final weight of the KL term.
        perceptual: Final weight of the feature term.
        perceptual_crops: Crops per batch for the feature term.
        perceptual_pixels: Side of the corner of those crops that it uses.
        perceptual_weights: File of VGG-16 weights; None: the gradient fallback.
        pixel_scale: Factor on the pixel terms. Errors of a few HU are thousandths of the range.
    """

    model_config = ConfigDict(extra="forbid")

    mse: float = 1.0
    l1: float = 0.5
    kl: float = 1e-5
    perceptual: float = 0.01
    perceptual_crops: int = 4
    perceptual_pixels: int = 64
    perceptual_weights: str | None = None
    pixel_scale: float = 1.0


def autoencoder_loss(
    model: Autoencoder,
    features: nn.Module,
    hu: Tensor,
    objective: AutoencoderObjective,
    progress: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Compute reconstruction, KL and feature terms (eq. 3) of crops [batch, 1, row, column], HU."""
    span = HuRange()
    x = span.to_network(hu)
    posterior = model.encode(x)
    restored = model.decode(posterior.sample(generator))
    mse, l1, kl = F.mse_loss(restored, x), F.l1_loss(restored, x), posterior.kl()
    loss = objective.pixel_scale * (objective.mse * mse + objective.l1 * l1)
    terms = {"mse": mse, "l1_hu": l1 * (span.high - span.low) / 2, "kl": kl}
    weight = ramp(progress)
    if weight > 0:
        terms["perceptual"] = _feature_term(
            features, span.to_hu(restored[_seen(objective)]), hu[_seen(objective)], generator
        )
        loss = loss + weight * (objective.kl * kl + objective.perceptual * terms["perceptual"])
    return {"loss": loss, **terms}


def ramp(progress: float) -> float:
    """Weight of a term by progress, 0 to 1: 0, then linear, then 1 (MAN paper, section 3.2)."""
    rise = (progress - PURE_RECONSTRUCTION) / (FULL_WEIGHT - PURE_RECONSTRUCTION)
    return min(1.0, max(0.0, rise))


def _seen(objective: AutoencoderObjective) -> tuple[slice, slice, slice, slice]:
    edge = slice(objective.perceptual_pixels)
    return slice(objective.perceptual_crops), slice(None), edge, edge


def _feature_term(
    features: nn.Module, restored: Tensor, hu: Tensor, generator: torch.Generator
) -> Tensor:
    device = hu.device
    choice = torch.randint(len(WINDOWS_HU), (len(hu),), generator=generator, device=device)
    seen = features(windowed(restored, choice)), features(windowed(hu, choice))
    return feature_distance(*seen).mean()

"""Losses of WGAN-VGG: Wasserstein distance with gradient penalty, and deep features."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from training.objectives.perceptual import WINDOWS_HU, feature_distance, windowed


class WganVggObjective(BaseModel):
    """Weights of the loss terms, and the critic.

    Attributes:
        perceptual: Weight of the distance of deep features; that of the critic's score is 1.
        perceptual_weights: File of VGG weights, whose last convolution is compared (conv5_4 of
            VGG-19 in the paper); None: the fallback of gradients and levels.
        penalty: Weight of the gradient penalty (Gulrajani et al. 2017, eq. 3).
        critic_steps: Steps of the critic before each of the generator.
        critic_rate: Learning rate of the critic, as a multiple of the generator's.
        critic_channels: Feature maps of the critic's first layers.
        critic_hidden: Values of the critic's layer before the last.
    """

    model_config = ConfigDict(extra="forbid")

    perceptual: float = Field(default=0.1, ge=0)
    perceptual_weights: str | None = None
    penalty: float = Field(default=10.0, ge=0)
    critic_steps: int = Field(default=4, ge=1)
    critic_rate: float = Field(default=1.0, gt=0)
    critic_channels: int = Field(default=64, ge=1)
    critic_hidden: int = Field(default=1024, ge=1)


def critic_loss(
    critic: nn.Module, full: Tensor, result: Tensor, weight: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """Compute the loss of the critic (eq. 5 of the paper).

    Args:
        critic: Network that scores crops.
        full: Full-dose crops [batch, 1, row, column], standardised.
        result: Results of the generator for the same crops, without their graph.
        weight: Weight of the gradient penalty.
        generator: Random numbers.

    Returns:
        ``critic``, which is differentiated, the estimated Wasserstein distance ``wasserstein``, and
        the ``penalty`` without its weight.
    """
    distance = critic(full).mean() - critic(result).mean()
    penalty = gradient_penalty(critic, full, result, generator)
    return {"critic": weight * penalty - distance, "wasserstein": distance, "penalty": penalty}


def gradient_penalty(
    critic: nn.Module, full: Tensor, result: Tensor, generator: torch.Generator
) -> Tensor:
    """Compute how far the critic's slope is from 1, at random points between pairs of crops."""
    share = torch.rand(len(full), 1, 1, 1, generator=generator, device=full.device)
    between = torch.lerp(result, full, share).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    lengths: Tensor = torch.linalg.vector_norm(slope, dim=(1, 2, 3))
    return (lengths - 1).square().mean()


def perceptual_loss(
    features: nn.Module, full: Tensor, result: Tensor, generator: torch.Generator
) -> Tensor:
    """Compute the distance of features of crops in HU, each in a random window.

    The paper feeds the whole HU range, of which 80 HU of contrast are 2 %.
    """
    choice = torch.randint(
        len(WINDOWS_HU), (len(full),), generator=generator, device=generator.device
    )
    with torch.no_grad():
        wanted = features(windowed(full, choice))
    return feature_distance(features(windowed(result, choice)), wanted).mean()

"""Losses of DU-GAN: least squares against two U-Nets, with CutMix (Huang et al. 2022)."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from training.objectives.constants import constant

REAL, NOT_REAL = 1.0, 0.0
"""Wanted scores: of full dose, and of results and low dose."""

SOBEL_PER_TWO_PIXELS = ((0.25, 0.0, -0.25), (0.5, 0.0, -0.5), (0.25, 0.0, -0.25))
"""Kernel across columns; transposed across rows."""

MIN_GRADIENT = 1e-2
"""Added to the square of a gradient, squared itself, so that its root can be differentiated."""


class DuGanObjective(BaseModel):
    """Weights of the loss terms, the discriminators, and CutMix.

    Attributes:
        adversarial_image: Weight of the scores of the discriminator of images.
        adversarial_gradient: Weight of the scores of the discriminator of gradients.
        mse: Weight of the squared error of standardised values.
        gradient: Weight of the absolute error of their gradients.
        cutmix_probability: Probability that a step mixes results and full dose.
        cutmix_warmup_steps: Steps in which it rises from 0.
        cutmix: Weight of the consistency of mixed scores.
        critic_steps: Steps of the discriminators before each of the generator.
        critic_rate: Learning rate of the discriminators, as a multiple of the generator's.
        critic_channels: Feature maps of the first level of the discriminators.
        critic_levels: How often the discriminators halve the resolution.
    """

    model_config = ConfigDict(extra="forbid")

    adversarial_image: float = Field(default=0.1418, ge=0)
    adversarial_gradient: float = Field(default=0.1196, ge=0)
    mse: float = Field(default=5.034, ge=0)
    gradient: float = Field(default=35.31, ge=0)
    cutmix_probability: float = Field(default=0.7616, ge=0, le=1)
    cutmix_warmup_steps: int = Field(default=1000, ge=1)
    cutmix: float = Field(default=5.087, ge=0)
    critic_steps: int = Field(default=1, ge=1)
    critic_rate: float = Field(default=0.394, gt=0)
    critic_channels: int = Field(default=64, ge=1)
    critic_levels: int = Field(default=6, ge=1)

    def cutmix_probability_at(self, step: int) -> float:
        """Return the probability of CutMix after so many steps."""
        return self.cutmix_probability * min(1.0, step / self.cutmix_warmup_steps)


def gradient_magnitude(image: Tensor) -> Tensor:
    """Compute the Sobel gradient of [batch, 1, row, column] without its direction.

    Per two pixels, as in the authors' code; edge values are kept beyond the edge.
    """
    kernel = constant(SOBEL_PER_TWO_PIXELS, image.device)
    kernels = torch.stack((kernel, kernel.T))[:, None]
    slopes = F.conv2d(F.pad(image, [1] * 4, mode="replicate"), kernels)
    return (slopes.square().sum(dim=1, keepdim=True) + MIN_GRADIENT**2).sqrt()


def score_loss(scores: tuple[Tensor, Tensor], wanted: float | Tensor) -> Tensor:
    """Compute the squared errors of the scores of crops and of pixels (least squares GAN).

    Args:
        scores: Of a discriminator, for crops and for pixels.
        wanted: Score of all pixels and thus of the crop; or [batch, 1, row, column] in {0, 1}, of
            mixed crops, which as a whole are not real.
    """
    whole, pixels = scores
    of_whole = wanted if isinstance(wanted, float) else NOT_REAL
    return (whole - of_whole).square().mean() + (pixels - wanted).square().mean()


def discriminator_loss(
    discriminator: nn.Module,
    full: Tensor,
    result: Tensor,
    low: Tensor,
    mask: Tensor | None,
    consistency: float,
) -> dict[str, Tensor]:
    """Compute the loss of one discriminator.

    Args:
        discriminator: U-Net that scores crops and their pixels.
        full: Full-dose crops [batch, 1, row, column] in the discriminator's domain.
        result: Results of the generator, without their graph.
        low: Low-dose crops.
        mask: 1 where a mixed crop is full dose and 0 where it is a result; None: no CutMix.
        consistency: Weight of the difference between mixed scores and scores of the mixed crop.

    Returns:
        ``critic``, which is differentiated, and ``cutmix``, its part by CutMix (0 without).
    """
    crops = [full, result, low]
    if mask is not None:
        crops.append(torch.where(mask > 0, full, result))
    whole, pixels = discriminator(torch.cat(crops))
    real, fake, source, *mixed = zip(whole.split(len(full)), pixels.split(len(full)), strict=True)
    loss = score_loss(real, REAL) + score_loss(fake, NOT_REAL) + score_loss(source, NOT_REAL)
    mixing = torch.zeros_like(loss)
    if mask is not None:
        agreed = torch.where(mask > 0, real[1], fake[1])
        mixing = score_loss(mixed[0], mask) + consistency * F.mse_loss(mixed[0][1], agreed)
    return {"critic": loss + mixing, "cutmix": mixing}


def cutmix_mask(crops: Tensor, probability: float, generator: torch.Generator) -> Tensor | None:
    """Draw a rectangle for each crop (Yun et al. 2019); None where the step does not mix.

    Whether it mixes is drawn on the host, so that it need not wait for the device.

    Returns:
        [batch, 1, row, column]: 1 outside of the rectangle, 0 within.
    """
    host = torch.Generator().manual_seed(generator.initial_seed())
    if float(torch.rand((), generator=host)) >= probability:
        return None
    device, (batch, _, rows, columns) = crops.device, crops.shape
    draws = torch.rand(3, batch, 1, 1, 1, generator=generator, device=device)
    half = (1 - draws[0]).sqrt() / 2  # the area is uniform in [0, 1]
    y = (torch.arange(rows, device=device).view(1, 1, rows, 1) + 0.5) / rows
    x = (torch.arange(columns, device=device).view(1, 1, 1, columns) + 0.5) / columns
    within = ((y - draws[1]).abs() < half) & ((x - draws[2]).abs() < half)
    return 1.0 - within.float()

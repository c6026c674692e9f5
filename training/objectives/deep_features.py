"""Deep features of VGG for the perceptual loss of WGAN-VGG, or a fallback without a file."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from training.objectives.perceptual import (
    FeatureExtractor,
    GradientFeatures,
    input_normalisation,
    vgg_convolutions,
)

LEVEL_PIXELS = 8
"""Side of the blocks whose mean the fallback compares, since gradients do not see levels."""


class DeepestFeatures(FeatureExtractor):
    """Output of the last convolution that a VGG file contains.

    In the paper it is conv5_4 of VGG-19. Any VGG of 3 x 3 convolutions will do: its pools are where
    the numbers of torchvision's layers leave room for them.

    Args:
        path: File of VGG weights.

    Raises:
        RecipeError: The file cannot be read or contains no VGG features.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        held = vgg_convolutions(path)
        self.convolutions = nn.ModuleList(held.values())
        self.pooled = [False, *(after - before > 2 for before, after in pairwise(held))]
        mean, std = input_normalisation(path)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the features of images [batch, 1, row, column] in [0, 1], in one layer."""
        x = (image.expand(-1, 3, -1, -1) - self.mean) / self.std
        for number, (convolution, pooled) in enumerate(
            zip(self.convolutions, self.pooled, strict=True)
        ):
            x = F.relu(x) if number else x
            x = convolution(F.max_pool2d(x, 2) if pooled else x)
        return [x]


class GradientsAndLevels(GradientFeatures):
    """Fallback without a weights file: gradients over octaves, and the means of blocks."""

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute features of [batch, 1, row, column] in [0, 1]."""
        return [*super().forward(image), F.avg_pool2d(image, LEVEL_PIXELS)]


def deep_features(path: Path | None) -> FeatureExtractor:
    """Build the deepest features of a file of VGG weights, or the fallback.

    Raises:
        RecipeError: The file cannot be read or contains no VGG features.
    """
    return GradientsAndLevels() if path is None else DeepestFeatures(path)

"""Feature distance of stage one (MAN paper, eq. 2): VGG-16 from a file, else gradients."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from training.errors import RecipeError
from training.objectives.constants import constant

WINDOWS_HU = ((-160.0, 240.0), (-1350.0, 150.0), (-1024.0, 1500.0))
"""Soft tissue, lung and bone. One is drawn per crop, since 80 HU are 2 % of the HU range (A9)."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Input normalisation of torchvision's VGG-16."""

OXFORD_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
OXFORD_STD = (1 / 255, 1 / 255, 1 / 255)
"""Input normalisation of the original weights (Simonyan and Zisserman 2015): 0 to 255, unscaled."""

OXFORD_PREFIX = "255"
"""Prefix of ``input`` in the metadata of a safetensors file of the original weights."""

VGG16_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""Indices of the convolutions in torchvision's ``features``."""

VGG16_TAPS = (2, 7, 14, 21)
"""Convolutions whose rectified output is compared: relu1_2, 2_2, 3_3, 4_3 (Johnson et al. 2016)."""

SOBEL = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]) / 8
LAPLACE = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]) / 4
"""Kernels of the fallback; the Sobel kernel is used in both directions."""

GRADIENT_SCALES = 3
"""Octaves at which the fallback compares gradients."""

FLOOR_HU = 4.0
FLOOR_PIXELS = 64
"""White noise and side of the grey image from which the noise floor of the features is measured."""


def windowed(hu: Tensor, choice: Tensor) -> Tensor:
    """Map crops [batch, 1, row, column] in HU to [0, 1] of the windows of an index [batch]."""
    low, high = constant(WINDOWS_HU, hu.device)[choice].T[:, :, None, None, None]
    unit: Tensor = (hu - low) / (high - low)
    return unit.clamp(0, 1)


class FeatureExtractor(nn.Module):
    """Maps images [batch, 1, row, column] in [0, 1] to the features of eq. 2, layer by layer."""

    @cached_property
    def floor(self) -> tuple[float, ...]:
        """Distance that ``FLOOR_HU`` of white noise cause in each of ``WINDOWS_HU``."""
        random = torch.Generator().manual_seed(0)
        noise = FLOOR_HU * torch.randn(1, 1, FLOOR_PIXELS, FLOOR_PIXELS, generator=random)
        widths = torch.tensor([high - low for low, high in WINDOWS_HU])
        grey = torch.full((len(widths), 1, FLOOR_PIXELS, FLOOR_PIXELS), 0.5)
        noisy = grey + noise / widths.view(-1, 1, 1, 1)
        device = next(self.buffers()).device
        distance = feature_distance(self(noisy.to(device)), self(grey.to(device)))
        return tuple(distance.tolist())


class VggFeatures(FeatureExtractor):
    """Rectified features of VGG-16 at those of ``VGG16_TAPS`` that the file contains."""

    mean: Tensor
    std: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        weights = _vgg_weights(path)
        mean, std = input_normalisation(path)
        self.taps: list[bool] = []
        self.convolutions = nn.ModuleList()
        for index in VGG16_CONVOLUTIONS[: VGG16_CONVOLUTIONS.index(VGG16_TAPS[-1]) + 1]:
            if f"features.{index}.weight" not in weights:
                break
            self.convolutions.append(_convolution(weights, index))
            self.taps.append(index in VGG16_TAPS)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute features of images [batch, 1, row, column] in [0, 1], layer by layer."""
        x = (image.expand(-1, 3, -1, -1) - self.mean) / self.std
        found = []
        for index, (convolution, tap) in enumerate(zip(self.convolutions, self.taps, strict=True)):
            if index and self.taps[index - 1]:
                x = F.max_pool2d(x, 2)
            x = F.relu(convolution(x))
            if tap:
                found.append(x)
        return found


class GradientFeatures(FeatureExtractor):
    """Fallback without a weights file: gradients and Laplacians over octaves."""

    kernels: Tensor

    def __init__(self) -> None:
        super().__init__()
        kernels = torch.stack((SOBEL, SOBEL.T, LAPLACE))[:, None]
        self.register_buffer("kernels", kernels)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute gradients and Laplacians of [batch, 1, row, column] in [0, 1], by octave."""
        found = []
        for _ in range(GRADIENT_SCALES):
            found.append(F.conv2d(image, self.kernels))
            image = F.avg_pool2d(image, 2)
        return found


def feature_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Compute the mean absolute difference of features over layers (eq. 2): [batch]."""
    layers = [(x - y).abs().mean(dim=(1, 2, 3)) for x, y in zip(a, b, strict=True)]
    return torch.stack(layers).mean(dim=0)


def perceptual_features(path: Path | None) -> FeatureExtractor:
    """Build VGG features from a file of torchvision weights, or the fallback.

    Raises:
        RecipeError: The file cannot be read or contains no VGG-16 features.
    """
    return GradientFeatures() if path is None else VggFeatures(path)


def vgg_convolutions(path: Path) -> dict[int, nn.Conv2d]:
    """Read all convolutions of a file of VGG weights by their index in torchvision's ``features``.

    Raises:
        RecipeError: The file cannot be read or contains no VGG features.
    """
    weights = _vgg_weights(path)
    names = (name.split(".") for name in weights if name.startswith("features."))
    indices = sorted(int(index) for _, index, part in names if part == "weight")
    return {index: _convolution(weights, index) for index in indices}


def input_normalisation(path: Path) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of the input that a VGG file was fitted with: [1, 3, 1, 1] each."""
    oxford = _metadata(path).get("input", "").startswith(OXFORD_PREFIX)
    mean, std = (OXFORD_MEAN, OXFORD_STD) if oxford else (IMAGENET_MEAN, IMAGENET_STD)
    return torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)


def _vgg_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RecipeError(
            f"The VGG-16 weights {path.name} cannot be read; check perceptual_weights."
        ) from error
    if "features.0.weight" not in weights:
        raise RecipeError(f"{path.name} contains no VGG-16 features with the names of torchvision.")
    return weights


def _metadata(path: Path) -> dict[str, str]:
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def _convolution(weights: dict[str, Tensor], index: int) -> nn.Conv2d:
    kernel, bias = (weights[f"features.{index}.{part}"].float() for part in ("weight", "bias"))
    convolution = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
    convolution.weight.data, convolution.bias.data = kernel, bias  # type: ignore[union-attr]
    return convolution

"""Learned perceptual distance (LPIPS, Zhang 2018): AlexNet features, linear heads v0.1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from man_core.quality.metrics import slices_of
from man_core.quality.perceptual_weights import load_features, load_heads
from man_core.quality.windows import Window, to_unit

LAYERS = ("features.0", "features.3", "features.6", "features.8", "features.10")
"""The five convolutions of AlexNet, as named in torchvision; LPIPS uses each after its ReLU."""

STRIDE_PADDING = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
POOLED_BEFORE = (False, True, True, False, False)

SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""Mean and standard deviation of ImageNet channels, for images in [-1, 1] instead of [0, 1]."""

UNIT_FLOOR = 1e-8
"""Added under the root of the length of a feature vector, to avoid division by zero."""

MIN_SIDE_PIXELS = 31
"""Minimum side of a slice; below it the second pooling of AlexNet has no pixels."""

SLICES_AT_ONCE = 4


class Lpips:
    """LPIPS of windowed CT slices: 0 for equal images, larger for images that look different.

    HU are clipped to the window, mapped to [-1, 1] and repeated in three channels; the convention
    is that of the public package (no factor 1/2 inside the square), as in published tables.

    Args:
        features: File of AlexNet weights; None: see ``find_features``.
        device: Device that computes the features.

    Raises:
        PerceptualWeightsError: There is no file, or not the published weights of AlexNet.
    """

    def __init__(self, features: Path | None = None, *, device: str = "cpu") -> None:
        weights = load_features(features)
        self._device = torch.device(device)
        self._layers = [
            (weights[f"{name}.weight"].to(self._device), weights[f"{name}.bias"].to(self._device))
            for name in LAYERS
        ]
        self._heads = [head.to(self._device) for head in load_heads()]

    def __call__(
        self, result: NDArray[np.floating], truth: NDArray[np.floating], window_hu: Window
    ) -> float:
        """Average the distance of images in HU, [slice, row, column] or [row, column], over slices.

        Raises:
            ValueError: The shapes differ or a side is shorter than 31 pixels.
        """
        pair = slices_of(result, truth)
        if min(pair[0].shape[1:]) < MIN_SIDE_PIXELS:
            raise ValueError(
                f"LPIPS needs slices of at least 31 x 31 pixels, got {pair[0].shape[1:]}."
            )
        x, y = (torch.from_numpy(np.float32(to_unit(hu, window_hu) * 2.0 - 1.0)) for hu in pair)
        with torch.inference_mode():
            parts = zip(*(torch.split(image, SLICES_AT_ONCE) for image in (x, y)), strict=True)
            return float(torch.cat([self.distance(a, b) for a, b in parts]).mean())

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the distance of pairs [slice, row, column] in [-1, 1] (Zhang 2018, eq. 1)."""
        total = torch.zeros(len(x), device=self._device)
        for head, ours, theirs in zip(self._heads, self._see(x), self._see(y), strict=True):
            squared = (_unit(ours) - _unit(theirs)) ** 2
            total = total + functional.conv2d(squared, head).mean(dim=(1, 2, 3))
        return total

    def _see(self, image: Tensor) -> list[Tensor]:
        shift, scale = (
            torch.tensor(v, device=self._device).view(1, 3, 1, 1) for v in (SHIFT, SCALE)
        )
        x = (image.to(self._device)[:, None] - shift) / scale
        seen = []
        steps = zip(self._layers, STRIDE_PADDING, POOLED_BEFORE, strict=True)
        for (weight, bias), (stride, padding), pooled in steps:
            x = functional.max_pool2d(x, kernel_size=3, stride=2) if pooled else x
            x = functional.relu(functional.conv2d(x, weight, bias, stride, padding))
            seen.append(x)
        return seen


def _unit(features: Tensor) -> Tensor:
    return features / torch.sqrt(UNIT_FLOOR + (features**2).sum(dim=1, keepdim=True))

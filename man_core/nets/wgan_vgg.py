"""WGAN-VGG: generator of plain convolutions, and its critic (Yang et al., IEEE TMI 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from man_core.nets.single_pass import SinglePassConfig, SinglePassNetwork

DEPTH = 8
"""Number of convolutions of the generator."""

KERNEL = 3
"""Side of all kernels."""

CARRIED = ((0, 1.0), (1, -1.0))
"""Feature maps that carry the input at the start: one its positive part, one its negative."""

SLOPE = 0.01
"""Slope of the critic's rectifiers below zero."""


@dataclass(frozen=True)
class WganVggConfig(SinglePassConfig):
    """Architecture of a generator of WGAN-VGG; embedded in the weights file.

    Attributes:
        channels: Feature maps of every layer, at least 2; 32 in the paper.
    """

    channels: int = 32

    @property
    def reach(self) -> int:
        """Radius of the receptive field: beyond the edges the layers see zeros."""
        return DEPTH * (KERNEL // 2)


class WganVgg(SinglePassNetwork):
    """Eight convolutions with ReLU between them.

    Two things differ from the paper: no ReLU follows the last layer, since standardised values have
    a sign, and the initial weights make the untrained network return its input, carried through the
    layers by two feature maps; there is no shortcut that would do so.
    """

    config: WganVggConfig

    def __init__(self, config: WganVggConfig) -> None:
        super().__init__(config)
        widths = [1] + [config.channels] * (DEPTH - 1) + [1]
        convolutions = [
            nn.Conv2d(into, out, KERNEL, padding=KERNEL // 2) for into, out in pairwise(widths)
        ]
        _carry_input(convolutions)
        layers = [layer for one in convolutions for layer in (one, nn.ReLU())]
        self.net = nn.Sequential(*layers[:-1])

    def denoised(self, standard: Tensor) -> Tensor:
        """Denoise standardised values [batch, 1, row, column]."""
        return self.net(standard)  # type: ignore[no-any-return]


@torch.no_grad()
def _carry_input(convolutions: Sequence[nn.Conv2d]) -> None:
    """Initialise for ReLU (He et al. 2015), except for two maps that carry the input unchanged."""
    middle = KERNEL // 2
    first, *_, last = convolutions
    for layer in convolutions:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        layer.weight[: len(CARRIED)] = 0
        for index, sign in CARRIED:
            into, out = (0 if layer is end else index for end in (first, last))
            layer.weight[out, into, middle, middle] = sign if layer in (first, last) else 1.0


class Critic(nn.Module):
    """Critic of crops of one size: six convolutions, every second one of stride 2, two layers.

    Args:
        crop: Side of the crops, pixels.
        channels: Feature maps of the first two convolutions, doubled twice; 64 in the paper.
        hidden: Values of the layer before the last; 1024 in the paper.

    Raises:
        ValueError: The crops are too small.
    """

    def __init__(self, crop: int, channels: int = 64, hidden: int = 1024) -> None:
        super().__init__()
        widths = [1, channels, channels, 2 * channels, 2 * channels, 4 * channels, 4 * channels]
        self.convolutions, side = nn.ModuleList(), crop
        for index, (into, out) in enumerate(pairwise(widths)):
            stride = 1 + index % 2
            self.convolutions.append(nn.Conv2d(into, out, KERNEL, stride))
            side = (side - KERNEL) // stride + 1
        if side < 1:
            raise ValueError(f"crops of {crop} pixels are too small for the critic")
        self.hidden = nn.Linear(widths[-1] * side**2, hidden)
        self.last = nn.Linear(hidden, 1)

    def forward(self, crops: Tensor) -> Tensor:
        """Score crops [batch, 1, row, column]: [batch, 1], higher for full dose."""
        for convolution in self.convolutions:
            crops = F.leaky_relu(convolution(crops), SLOPE)
        return self.last(F.leaky_relu(self.hidden(crops.flatten(1)), SLOPE))  # type: ignore[no-any-return]

"""Residual network that predicts the noise (Missert et al., CT Meeting 2018)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from man_core.nets.single_pass import SinglePassConfig, SinglePassNetwork

KERNEL = 3
INPUT_KERNEL = 9


@dataclass(frozen=True)
class ResNetConfig(SinglePassConfig):
    """Architecture of the network; embedded in the weights file.

    Attributes:
        channels: Feature maps of every layer.
        blocks: Residual blocks.
        groups: Groups of the second convolution of a block.
    """

    channels: int = 128
    blocks: int = 10
    groups: int = 8


class ResNet(SinglePassNetwork):
    """Subtracts the noise that residual blocks predict; edges see zeros."""

    config: ResNetConfig

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        width = config.channels
        self.in_conv = nn.Conv2d(1, width, INPUT_KERNEL, padding=INPUT_KERNEL // 2)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.out_conv = nn.Conv2d(width, 1, KERNEL, padding=KERNEL // 2)

    def denoised(self, standard: Tensor) -> Tensor:
        """Denoise standardised values [batch, 1, row, column]."""
        hidden = self.in_conv(standard)
        for block in self.blocks:
            hidden = block(hidden)
        return standard - self.out_conv(hidden)  # type: ignore[no-any-return]


class _Block(nn.Module):
    """A full, a grouped and a pointwise convolution, added to their input."""

    config: ResNetConfig

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        width, edge = config.channels, KERNEL // 2
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, KERNEL, padding=edge),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, KERNEL, padding=edge, groups=config.groups),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + x  # type: ignore[no-any-return]

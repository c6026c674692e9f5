"""DU-GAN: generator, and the U-Net that tells its results from full dose (Huang et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.parametrizations import spectral_norm

from man_core.nets.blocks import zeroed
from man_core.nets.single_pass import SinglePassConfig, SinglePassNetwork

KERNEL = 3
"""Side of all kernels of the generator."""

SLOPE = 0.2
"""Slope of the discriminator's rectifiers below zero."""

WIDEST = 8
"""Maximum width of the discriminator, as a multiple of its first layer's."""


@dataclass(frozen=True)
class DuGanConfig(SinglePassConfig):
    """Architecture of a generator of DU-GAN; embedded in the weights file.

    Attributes:
        channels: Feature maps of every layer; 32 in the authors' code.
        depth: Number of convolutions, and of transposed ones; 11 in the authors' code.
    """

    channels: int = 32
    depth: int = 11

    @property
    def reach(self) -> int:
        """Radius of the receptive field: beyond the edges the layers see zeros."""
        return 2 * self.depth * (KERNEL // 2)


class DuGan(SinglePassNetwork):
    """Convolutions and transposed ones of equal size, with a shortcut at every level.

    What enters a convolution is added to what leaves its mirror image; the outermost shortcut leads
    from the input to the output. Two things differ from the authors' code: no ReLU follows the last
    sum, since standardised values have a sign, and the last layer is initialised to zero, so that
    the untrained network returns its input.
    """

    config: DuGanConfig

    def __init__(self, config: DuGanConfig) -> None:
        super().__init__(config)
        widths = [1] + [config.channels] * config.depth
        same = KERNEL // 2
        down = [nn.Conv2d(into, out, KERNEL, padding=same) for into, out in pairwise(widths)]
        up = [
            nn.ConvTranspose2d(into, out, KERNEL, padding=same)
            for into, out in pairwise(reversed(widths))
        ]
        for layer in (*down, *up):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        zeroed(up[-1])
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)

    def denoised(self, standard: Tensor) -> Tensor:
        """Denoise standardised values [batch, 1, row, column]."""
        hidden, entered = standard, []
        for layer in self.down:
            entered.append(hidden)
            hidden = F.relu(layer(hidden))
        for layer in self.up[:-1]:
            hidden = F.relu(layer(hidden) + entered.pop())
        return self.up[-1](hidden) + standard  # type: ignore[no-any-return]


class UnetDiscriminator(nn.Module):
    """U-Net with spectral normalisation that scores a crop as a whole and each of its pixels.

    Args:
        channels: Feature maps of the first level, doubled down to ``WIDEST`` times as many; 64 in
            the paper.
        levels: How often the resolution is halved; 6 in the authors' code.
    """

    def __init__(self, channels: int = 64, levels: int = 6) -> None:
        super().__init__()
        widths = [1, *(channels * min(2**level, WIDEST) for level in range(levels))]
        self.down = nn.ModuleList(_Down(into, out) for into, out in pairwise(widths))
        self.deepest = _Bottom(widths[-1])
        self.up = nn.ModuleList(_Up(into, out) for into, out in pairwise(reversed(widths)))
        self.whole = nn.Linear(widths[-1], 1)
        self.pixels = nn.Conv2d(1, 1, 1)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Score crops [batch, 1, row, column], higher for full dose.

        Returns:
            [batch, 1], of each crop, and [batch, 1, row, column], of each pixel.
        """
        x, kept = crops, []
        for down in self.down:
            x, level = down(x)
            kept.append(level)
        x = self.deepest(x)
        whole = self.whole(F.leaky_relu(x, SLOPE).mean(dim=(2, 3)))
        for up in self.up:
            x = up(x, kept.pop())
        return whole, self.pixels(x)


class _Down(nn.Module):
    """Two convolutions and a third one of stride 2, beside a shortcut."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.pair = _convolutions(into, out)
        self.halve = _normed(nn.Conv2d(out, out, 4, stride=2, padding=1))
        self.shortcut = _normed(nn.Conv2d(into, out, 1, stride=2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        level = self.pair(x)
        return self.halve(level) + self.shortcut(x), level


class _Bottom(nn.Module):
    """Two residual pairs of convolutions at the lowest resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _convolutions(width, width), _convolutions(width, width)
        self.shortcut = _normed(nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x) + self.shortcut(x)
        return x + self.second(x)  # type: ignore[no-any-return]


class _Up(nn.Module):
    """Doubling by interpolation, then two convolutions of both levels, beside a shortcut."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.pair = _convolutions(2 * into, out)
        self.shortcut = _normed(nn.Conv2d(into, out, 1))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.pair(torch.cat((x, level), dim=1)) + self.shortcut(x)  # type: ignore[no-any-return]


def _convolutions(into: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for count in (into, out):
        layers += [_normed(nn.Conv2d(count, out, 3, padding=1)), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)


def _normed(layer: nn.Conv2d) -> nn.Module:
    """Normalise a convolution of several maps; one that sees the crop itself stays free."""
    return spectral_norm(layer) if layer.in_channels > 1 else layer

"""Convolutional building blocks shared by the autoencoder and the U-Net."""

from __future__ import annotations

import math
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

NormKind = Literal["group", "pixel"]
"""``group``: GroupNorm, as in the paper. ``pixel``: each pixel over its channels, with no
statistics of the image, which would differ between a crop and a whole slice."""

MAX_NORM_GROUPS = 32
"""Maximum number of groups of a GroupNorm; fewer if they do not divide the channels."""

MAX_PERIOD_STEPS = 10_000.0
"""Longest wavelength of the sinusoidal time embedding, in steps (Vaswani et al. 2017)."""

Layer = TypeVar("Layer", nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


class PixelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel, [batch, channel, row, column]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; the shape is preserved."""
        last = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias)
        return last.permute(0, 3, 1, 2)


def norm(kind: NormKind, channels: int) -> nn.Module:
    """Build the normalisation layer of a kind for a number of channels."""
    if kind == "pixel":
        return PixelNorm(channels)
    return nn.GroupNorm(math.gcd(MAX_NORM_GROUPS, channels), channels, eps=1e-6)


def zeroed(module: Layer) -> Layer:
    """Set weights and bias of a module to zero, so that its branch starts without effect."""
    nn.init.zeros_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module


class ResidualBlock(nn.Module):
    """Two times norm, SiLU and convolution around a shortcut; optionally modulated by time."""

    def __init__(
        self, channels_in: int, channels: int, kind: NormKind, time_channels: int = 0
    ) -> None:
        super().__init__()
        self.norm_in = norm(kind, channels_in)
        self.conv_in = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.norm_out = norm(kind, channels)
        self.conv_out = zeroed(nn.Conv2d(channels, channels, 3, padding=1))
        self.modulation = zeroed(nn.Linear(time_channels, 2 * channels)) if time_channels else None
        same = channels_in == channels
        self.shortcut: nn.Module = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """Apply to x [batch, channel, row, column] and time [batch, time_channel]."""
        hidden = self.norm_out(self.conv_in(_silu(self.norm_in(x))))
        if self.modulation is not None and time is not None:
            scale, shift = self.modulation(F.silu(time))[:, :, None, None].chunk(2, dim=1)
            hidden = hidden * (1 + scale) + shift
        return self.shortcut(x) + self.conv_out(_silu(hidden))  # type: ignore[no-any-return]


def _silu(x: Tensor) -> Tensor:
    """Apply SiLU to a tensor that nobody else reads; in place where no gradient needs it."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class Downsample(nn.Module):
    """Halves rows and columns by a strided convolution."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels_in, row, column] to [batch, channels, row/2, column/2]."""
        return self.conv(x)  # type: ignore[no-any-return]


class Upsample(nn.Module):
    """Doubles rows and columns by sub-pixel convolution (Shi et al. 2016)."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels_in, row, column] to [batch, channels, 2 row, 2 column]."""
        return F.pixel_shuffle(self.conv(x), 2)


class TimeEmbedding(nn.Module):
    """Sinusoidal embedding of the diffusion step with a small perceptron (Ho et al. 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.perceptron = nn.Sequential(
            nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, channels)
        )

    def forward(self, step: Tensor) -> Tensor:
        """Map steps [batch] to [batch, channels]."""
        return self.perceptron(sinusoid(step, self.channels))  # type: ignore[no-any-return]


def sinusoid(position: Tensor, channels: int) -> Tensor:
    """Embed positions [...] by cosines and sines of geometric periods [..., channels]."""
    half = channels // 2
    exponent = torch.arange(half, device=position.device, dtype=torch.float32) / half
    angle = position.float()[..., None] * torch.exp(-math.log(MAX_PERIOD_STEPS) * exponent)
    return torch.cat((angle.cos(), angle.sin()), dim=-1)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Replicate the last row and column until both sides of [..., row, column] are multiples."""
    rows, columns = x.shape[-2:]
    padding = (0, -columns % multiple, 0, -rows % multiple)
    return F.pad(x, padding, mode="replicate") if any(padding) else x

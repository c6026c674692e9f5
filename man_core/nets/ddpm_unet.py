"""Pixel-space U-Net of DDPM, conditioned by concatenation.

Architecture by Ho et al. 2020 (appendix B), size for slices of 256 pixels by Song et al. 2021
(DDIM). Conditional DDPM and Fast-DDPM for low-dose CT use it with the low-dose slice as a second
input channel. The U-Net of SR3 (Saharia et al. 2021), with which Dn-Dp is built, is the same but
for a narrower embedding of the step and attention without bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from man_core.nets.attention import attend
from man_core.nets.blocks import Downsample, norm, sinusoid, zeroed


@dataclass(frozen=True)
class DdpmUnetConfig:
    """Architecture; the defaults are the published size of 113,669,761 parameters.

    Attributes:
        channels_in: Low-dose slice and noisy slice.
        channels_out: Predicted noise.
        channels: Feature maps at full resolution.
        multipliers: Feature maps of each level in multiples of ``channels``; each level halves the
            resolution.
        blocks: Residual blocks per level in the encoder; the decoder has one more.
        attention: Levels with self-attention, counted from 0. Level 4 has maps of 16 x 16 for the
            published slices of 256 pixels; for slices of 512 they are 32 x 32, with four times as
            many tokens. The middle always has it.
        time_multiplier: Width of the embedded step in multiples of ``channels``; 1 in SR3.
        attention_bias: Whether queries, keys and values have a bias; not in SR3.
        dropout: Share of the feature maps that a block loses in a fit.
    """

    channels_in: int = 2
    channels_out: int = 1
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    blocks: int = 2
    attention: tuple[int, ...] = (4,)
    time_multiplier: int = 4
    attention_bias: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Reject values that give no network.

        Raises:
            ValueError: A number is below 1, or the channels are odd.
        """
        counts = (self.channels_in, self.channels_out, self.blocks, self.time_multiplier)
        if min((*counts, *self.multipliers), default=0) < 1 or not self.multipliers:
            raise ValueError("channels, multipliers and blocks must be at least 1")
        if self.channels < 2 or self.channels % 2:
            raise ValueError("channels must be even, since half of the step's embedding are sines")

    @property
    def alignment(self) -> int:
        """Number that divides rows and columns of its images."""
        return int(2 ** (len(self.multipliers) - 1))

    @property
    def widths(self) -> tuple[int, ...]:
        """Feature maps of each level."""
        return tuple(self.channels * multiplier for multiplier in self.multipliers)

    @property
    def time(self) -> int:
        """Width of the embedded step."""
        return self.time_multiplier * self.channels

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DdpmUnetConfig:
        """Build the configuration from JSON.

        Raises:
            TypeError: A key is unknown.
            ValueError: A value is out of range.
        """
        lists = {name: tuple(values[name]) for name in ("multipliers", "attention")}
        return cls(**{**values, **lists})


class DdpmUnet(nn.Module):
    """Predicts the noise in a slice from (low-dose slice, noisy slice) and step."""

    def __init__(self, config: DdpmUnetConfig) -> None:
        super().__init__()
        self.config = config
        channels, widths = config.channels, config.widths
        self.time = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.SiLU(), nn.Linear(4 * channels, config.time)
        )
        self.conv_in = nn.Conv2d(config.channels_in, channels, 3, padding=1)
        kept = [channels]
        self.down = nn.ModuleList(_down_steps(config, kept))
        deepest = widths[-1]
        self.middle = nn.ModuleList(
            [_Block(config, deepest, deepest, attends=attends) for attends in (True, False)]
        )
        self.up = nn.ModuleList(_up_steps(config, kept))
        self.norm_out = norm("group", widths[0])
        self.conv_out = zeroed(nn.Conv2d(widths[0], config.channels_out, 3, padding=1))

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """Predict the noise.

        Args:
            x: Condition and noisy slice [batch, channels_in, row, column]; rows and columns are
                multiples of ``alignment``, 32 in the published size.
            step: Diffusion step [batch].

        Returns:
            [batch, channels_out, row, column].
        """
        time = self.time(sinusoid(step, self.config.channels))
        hidden = self.conv_in(x)
        kept = [hidden]
        for layer in self.down:
            hidden = layer(hidden, time) if isinstance(layer, _Block) else layer(hidden)
            kept.append(hidden)
        for layer in self.middle:
            hidden = layer(hidden, time)
        for layer in self.up:
            if isinstance(layer, _Block):
                hidden = layer(torch.cat((hidden, kept.pop()), dim=1), time)
            else:
                hidden = layer(hidden)
        return self.conv_out(F.silu(self.norm_out(hidden)))  # type: ignore[no-any-return]


def _down_steps(config: DdpmUnetConfig, kept: list[int]) -> Iterator[nn.Module]:
    """Yield blocks and downsampling steps; append the feature maps of each to ``kept``."""
    for level, width in enumerate(config.widths):
        for _ in range(config.blocks):
            yield _Block(config, kept[-1], width, attends=level in config.attention)
            kept.append(width)
        if level + 1 < len(config.widths):
            yield Downsample(width, width)
            kept.append(width)


def _up_steps(config: DdpmUnetConfig, kept: list[int]) -> Iterator[nn.Module]:
    """Yield blocks, each with a skip connection from the encoder, and upsampling steps."""
    channels = config.widths[-1]
    for level, width in reversed(list(enumerate(config.widths))):
        for _ in range(config.blocks + 1):
            attends = level in config.attention
            yield _Block(config, channels + kept.pop(), width, attends=attends)
            channels = width
        if level:
            yield _Double(width)


class _Double(nn.Module):
    """Nearest-neighbour upsampling and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Two times norm, SiLU and convolution with the step added between; optional attention."""

    def __init__(
        self, config: DdpmUnetConfig, channels_in: int, channels: int, *, attends: bool
    ) -> None:
        super().__init__()
        self.norm_in = norm("group", channels_in)
        self.conv_in = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.time = nn.Linear(config.time, channels)
        self.norm_out = norm("group", channels)
        self.dropout = nn.Dropout(config.dropout)
        self.conv_out = zeroed(nn.Conv2d(channels, channels, 3, padding=1))
        same = channels_in == channels
        self.shortcut: nn.Module = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1)
        self.attention: nn.Module = _Attention(config, channels) if attends else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        hidden = self.conv_in(F.silu(self.norm_in(x)))
        hidden = hidden + self.time(F.silu(time))[:, :, None, None]
        hidden = self.conv_out(self.dropout(F.silu(self.norm_out(hidden))))
        return self.attention(self.shortcut(x) + hidden)  # type: ignore[no-any-return]


class _Attention(nn.Module):
    """Self-attention over all pixels, one head, around a shortcut."""

    def __init__(self, config: DdpmUnetConfig, channels: int) -> None:
        super().__init__()
        self.norm = norm("group", channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1, bias=config.attention_bias)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.query_key_value(self.norm(x)).flatten(2).transpose(1, 2)
        query, key, value = tokens.chunk(3, dim=-1)
        seen = attend(query, key, value, heads=1).transpose(1, 2)
        return x + self.out(seen.reshape(x.shape))  # type: ignore[no-any-return]

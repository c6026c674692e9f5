"""Stage two of MAN: conditional U-Net in latent space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from man_core.nets.attention import SpatialTransformer, coordinates, position_embedding
from man_core.nets.blocks import (
    Downsample,
    NormKind,
    ResidualBlock,
    TimeEmbedding,
    Upsample,
    norm,
    zeroed,
)
from man_core.nets.choice import require_choice

ConditionKind = Literal["xattn", "concat", "both"]
"""Input of the low-dose latent: by cross-attention (the paper), concatenated to z_t, or both."""


@dataclass(frozen=True)
class UnetConfig:
    """Architecture of a conditional U-Net.

    Attributes:
        latent: Latent channels of z_t and of the condition.
        channels: Channels of each level, finest first.
        blocks: Residual blocks per level in the encoder; the decoder has one more.
        attention: Levels with spatial transformers, 0 the finest; the middle always has one.
        condition: Input of the condition.
        context: Channels of the condition's tokens.
        context_width: Channels of the condition encoder's first layer.
        context_stride: Latent positions per token along a row, a power of two.
        heads: Attention heads.
        expansion: Expansion of the transformers' perceptrons.
        time: Channels of the time embedding.
        norm: Normalisation kind.
    """

    latent: int = 48
    channels: tuple[int, ...] = (128, 112, 112)
    blocks: int = 1
    attention: tuple[int, ...] = (2,)
    condition: ConditionKind = "both"
    context: int = 96
    context_width: int = 48
    context_stride: int = 2
    heads: int = 4
    expansion: int = 2
    time: int = 128
    norm: NormKind = "pixel"

    def __post_init__(self) -> None:
        """Reject unknown keywords.

        Raises:
            ValueError: There is one.
        """
        require_choice("unet.condition", self.condition, get_args(ConditionKind))
        require_choice("unet.norm", self.norm, get_args(NormKind))

    @property
    def alignment(self) -> int:
        """Number of which rows and columns of a latent must be multiples."""
        return max(1 << (len(self.channels) - 1), self.context_stride)


class ConditionEncoder(nn.Module):
    """Maps the low-dose latent to tokens for cross-attention (readings A2 and A3)."""

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(config.latent, config.context_width, 3, padding=1)]
        width, stride = config.context_width, 1
        while stride < config.context_stride:
            layers += [ResidualBlock(width, width, config.norm), Downsample(width, config.context)]
            width, stride = config.context, 2 * stride
        layers += [ResidualBlock(width, width, config.norm), nn.Conv2d(width, config.context, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, latent: Tensor) -> Tensor:
        """Map [batch, latent, row, column] to [batch, context, row / stride, column / stride]."""
        return self.layers(latent)  # type: ignore[no-any-return]


class Level(nn.Module):
    """Residual blocks of one resolution, each optionally followed by a transformer."""

    def __init__(
        self, config: UnetConfig, index: int, widths_in: Sequence[int], width: int
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualBlock(width_in, width, config.norm, config.time) for width_in in widths_in
        )
        attends = index in config.attention
        self.transformers = nn.ModuleList(transformer(config, width) for _ in widths_in if attends)

    def forward(self, number: int, x: Tensor, time: Tensor, context: Context) -> Tensor:
        """Run block ``number`` and its transformer."""
        x = self.blocks[number](x, time)
        if len(self.transformers):
            x = self.transformers[number](x, context.tokens, context.places(x))
        return x


@dataclass(frozen=True)
class Context:
    """Input that is the same in every step: context of cross-attention, and neighbouring slices.

    Attributes:
        tokens: Tokens of the condition [batch, token, context]; None without cross-attention.
        position: [batch, 4] (top, left, bottom, right) of the crop, fractions of its slice.
        channels: Channels of the position embedding.
        beside: Features of the neighbouring slices, added to the first ones; None: no neighbours.
    """

    tokens: Tensor | None
    position: Tensor
    channels: int
    beside: Tensor | None = None
    _places: dict[tuple[int, int], Tensor] = field(default_factory=dict, init=False)

    def grid(self, rows: int, columns: int) -> Tensor:
        """Return the position embedding [batch, channels, row, column] of a grid over the crop."""
        top, left, bottom, right = self.position.unbind(dim=1)
        down, across = coordinates(top, bottom, rows), coordinates(left, right, columns)
        return position_embedding(down, across, self.channels)

    def places(self, x: Tensor) -> Tensor | None:
        """Return the position embedding of the pixels of x [batch, row * column, channels]."""
        if self.tokens is None:
            return None
        rows, columns = x.shape[-2:]
        if (rows, columns) not in self._places:
            self._places[rows, columns] = self.grid(rows, columns).flatten(2).transpose(1, 2)
        return self._places[rows, columns].to(x.dtype)


def transformer(config: UnetConfig, width: int) -> SpatialTransformer:
    """Build the spatial transformer of a level of some width."""
    context = config.context if config.condition != "concat" else 0
    return SpatialTransformer(width, context, config.norm, config.heads, config.expansion)


class ConditionalUnet(nn.Module):
    """Network f(z_t, t, c) of the MAN paper, section 3.3; see parametrization for f.

    Args:
        config: Architecture.
        told: Channels of an embedding that is added to that of time; 0: none is.
        beside: Channels of neighbouring slices; 0: none are seen.
    """

    def __init__(self, config: UnetConfig, told: int = 0, beside: int = 0) -> None:
        super().__init__()
        self.config = config
        widths, last = config.channels, config.channels[-1]
        entries = config.latent * (1 if config.condition == "xattn" else 2)
        self.time = TimeEmbedding(config.time)
        self.told = zeroed(nn.Linear(told, config.time)) if told else None
        self.conv_in = nn.Conv2d(entries, widths[0], 3, padding=1)
        self.context = ConditionEncoder(config) if config.condition != "concat" else None
        self.down = nn.ModuleList(
            Level(config, i, [width] * config.blocks, width) for i, width in enumerate(widths)
        )
        self.shrink = nn.ModuleList(Downsample(a, b) for a, b in pairwise(widths))
        self.middle_in = ResidualBlock(last, last, config.norm, config.time)
        self.middle = transformer(config, last)
        self.middle_out = ResidualBlock(last, last, config.norm, config.time)
        self.up = nn.ModuleList(
            Level(config, i, [2 * width] * (config.blocks + 1), width)
            for i, width in enumerate(widths)
        )
        self.grow = nn.ModuleList(Upsample(b, a) for a, b in pairwise(widths))
        self.norm_out = norm(config.norm, widths[0])
        self.conv_out = zeroed(nn.Conv2d(widths[0], config.latent, 3, padding=1))
        self.beside = zeroed(nn.Conv2d(beside, widths[0], 3, padding=1)) if beside else None

    def forward(
        self,
        z: Tensor,
        step: Tensor,
        condition: Tensor,
        position: Tensor,
        context: Context | None = None,
        embedding: Tensor | None = None,
        beside: Tensor | None = None,
    ) -> Tensor:
        """Evaluate the network.

        Args:
            z: Noisy latent [batch, latent, row, column].
            step: Diffusion steps [batch].
            condition: Low-dose latent [batch, latent, row, column].
            position: (top, left, bottom, right) of the crop, fractions of its slice [batch, 4].
            context: ``context_of(condition, position, beside)``, the same in every step.
            embedding: What the network is told besides [batch, told]; None: nothing.
            beside: Neighbouring slices [batch, channel, row, column]; None: none.

        Returns:
            [batch, latent, row, column].
        """
        time = self.time(step)
        if self.told is not None and embedding is not None:
            time = time + self.told(F.silu(embedding))
        context = context or self.context_of(condition, position, beside)
        entry = z if self.config.condition == "xattn" else torch.cat((z, condition), dim=1)
        first = self.conv_in(entry)
        first = first if context.beside is None else first + context.beside
        x, skips = self._descend(first, time, context)
        x = self.middle_out(
            self.middle(self.middle_in(x, time), context.tokens, context.places(x)), time
        )
        x = self._ascend(x, skips, time, context)
        return self.conv_out(F.silu(self.norm_out(x)))  # type: ignore[no-any-return]

    def context_of(
        self, condition: Tensor, position: Tensor, beside: Tensor | None = None
    ) -> Context:
        """Compute the input that is the same in every step; arguments as in ``forward``."""
        seen = None if self.beside is None or beside is None else self.beside(beside)
        blank = Context(None, position, self.config.context, seen)
        if self.context is None:
            return blank
        features = self.context(condition)
        features = features + blank.grid(*features.shape[-2:]).to(features.dtype)
        tokens = features.flatten(2).transpose(1, 2)
        return Context(tokens, position, self.config.context, seen)

    def _descend(self, x: Tensor, time: Tensor, context: Context) -> tuple[Tensor, list[Tensor]]:
        skips = [x]
        for index, level in enumerate(self.down):
            for number in range(self.config.blocks):
                x = level(number, x, time, context)
                skips.append(x)
            if index < len(self.shrink):
                x = self.shrink[index](x)
                skips.append(x)
        return x, skips

    def _ascend(self, x: Tensor, skips: list[Tensor], time: Tensor, context: Context) -> Tensor:
        for index in reversed(range(len(self.up))):
            for number in range(self.config.blocks + 1):
                x = self.up[index](number, torch.cat((x, skips.pop()), dim=1), time, context)
            if index:
                x = self.grow[index - 1](x)
        return x

"""Attention over positions: pooled self-attention and latent diffusion's spatial transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from man_core.nets.blocks import NormKind, norm, sinusoid, zeroed

POSITION_SCALE = 1000.0
"""Scale of slice coordinates, which are of order one; the shortest sinusoid has period 2 pi."""


def position_embedding(rows: Tensor, columns: Tensor, channels: int) -> Tensor:
    """Embed slice coordinates by sines and cosines in two dimensions.

    Args:
        rows: [batch, row] coordinates of the rows, fractions of the slice.
        columns: [batch, column] coordinates of the columns.
        channels: Channels of the embedding, a multiple of 4.

    Returns:
        [batch, channels, row, column].
    """
    half = channels // 2
    down = sinusoid(rows * POSITION_SCALE, half).transpose(1, 2)[:, :, :, None]
    across = sinusoid(columns * POSITION_SCALE, half).transpose(1, 2)[:, :, None, :]
    shape = (rows.shape[0], half, rows.shape[1], columns.shape[1])
    return torch.cat((down.expand(shape), across.expand(shape)), dim=1)


def coordinates(first: Tensor, last: Tensor, count: int) -> Tensor:
    """Return centres [batch, count] of equal cells from ``first`` [batch] to ``last`` [batch]."""
    cell = (torch.arange(count, device=first.device, dtype=torch.float32) + 0.5) / count
    return first.float()[:, None] + cell * (last - first).float()[:, None]


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Multi-head scaled dot-product attention; all tensors are [batch, token, channel]."""
    batch, _, channels = query.shape

    def split(x: Tensor) -> Tensor:
        return x.view(batch, -1, heads, channels // heads).transpose(1, 2)

    mixed = F.scaled_dot_product_attention(split(query), split(key), split(value))
    return mixed.transpose(1, 2).reshape(batch, -1, channels)


class PooledAttention(nn.Module):
    """Self-attention with average-pooled keys and values, which reduces its cost."""

    def __init__(self, channels: int, kind: NormKind, heads: int = 4, pool: int = 4) -> None:
        super().__init__()
        self.heads, self.pool = heads, pool
        self.norm = norm(kind, channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key_value = nn.Linear(channels, 2 * channels, bias=False)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channel, row, column], same shape out."""
        normed = self.norm(x)
        pooled = F.avg_pool2d(normed, self.pool) if self.pool > 1 else normed
        key, value = self.key_value(pooled.flatten(2).transpose(1, 2)).chunk(2, dim=-1)
        mixed = attend(self.query(normed.flatten(2).transpose(1, 2)), key, value, self.heads)
        return x + self.out(mixed).transpose(1, 2).view_as(x)  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Gated perceptron of a transformer (GEGLU, Shazeer 2020)."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.gate = nn.Linear(channels, 2 * expansion * channels)
        self.out = nn.Linear(expansion * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, token, channel], same shape out."""
        value, gate = self.gate(x).chunk(2, dim=-1)
        return self.out(value * F.gelu(gate))  # type: ignore[no-any-return]


class SpatialTransformer(nn.Module):
    """Self-attention, cross-attention to the condition, perceptron (Rombach et al. 2022, 3.3).

    Queries contain the position of their pixel, without which attention cannot find the matching
    place of the condition.
    """

    def __init__(
        self,
        channels: int,
        context: int,
        kind: NormKind,
        heads: int,
        expansion: int,
        self_pool: int = 1,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.self_attention = PooledAttention(channels, kind, heads, self_pool)
        if context:
            self.norm_cross = nn.LayerNorm(channels)
            self.query = nn.Linear(channels, channels, bias=False)
            self.position = nn.Linear(context, channels, bias=False)
            self.key_value = nn.Linear(context, 2 * channels, bias=False)
            self.out = zeroed(nn.Linear(channels, channels))
        self.norm_feed = nn.LayerNorm(channels)
        self.feed = FeedForward(channels, expansion)
        zeroed(self.feed.out)

    def forward(self, x: Tensor, context: Tensor | None, place: Tensor | None) -> Tensor:
        """Apply the block; the shape of ``x`` is preserved.

        Args:
            x: [batch, channel, row, column].
            context: Tokens of the condition [batch, token, context].
            place: Positions of the pixels of x [batch, row * column, context].
        """
        x = self.self_attention(x)
        tokens = x.flatten(2).transpose(1, 2)
        if context is not None and place is not None:
            tokens = tokens + self._cross(tokens, context, place)
        tokens = tokens + self.feed(self.norm_feed(tokens))
        return tokens.transpose(1, 2).reshape(x.shape)  # type: ignore[no-any-return]

    def _cross(self, tokens: Tensor, context: Tensor, place: Tensor) -> Tensor:
        query = self.query(self.norm_cross(tokens)) + self.position(place)
        key, value = self.key_value(context).chunk(2, dim=-1)
        return self.out(attend(query, key, value, self.heads))  # type: ignore[no-any-return]

"""Embedding of the dose gain, by which a network is told how much noise to leave."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from man_core.nets.blocks import ResidualBlock, TimeEmbedding

STEPS_PER_DOUBLING = 100.0
"""Steps of the sinusoidal embedding per doubling of the dose, so that a tenth of a doubling is seen
as well as ten steps of a diffusion."""


class GainEmbedding(nn.Module):
    """Embedding of the dose gain: 1 leaves the noise, 4 is as if from four times the dose."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.embedding = TimeEmbedding(channels)

    def forward(self, gain: Tensor) -> Tensor:
        """Map gains [batch], at least 1, to [batch, channels]."""
        return self.embedding(STEPS_PER_DOUBLING * torch.log2(gain))  # type: ignore[no-any-return]


def modulated(layers: Iterable[nn.Module], x: Tensor, embedding: Tensor | None) -> Tensor:
    """Apply layers in turn; residual blocks also get the embedding [batch, channel]."""
    for layer in layers:
        x = layer(x, embedding) if isinstance(layer, ResidualBlock) else layer(x)
    return x

"""Detail path: a short network at half resolution that restores anatomical detail of the input.

Not part of the paper. The latent has one position for 8 x 8 pixels, so the decoder softens edges.
This path receives the residual x - D(z_0) with the decoder's features and returns its anatomical
part (cf. the controllable feature wrapping of StableSR, Wang et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from man_core.nets.blocks import NormKind, ResidualBlock, zeroed
from man_core.nets.gain import modulated

STEM = 2
"""Pixels per position of this path along a row."""

UNIT = 50 / 2048
"""50 HU in network values: the scale of the residual, so that the layers see values of about 1."""

MEAN_PIXELS = 5
"""Side of the square whose mean is subtracted from the decoded slice, so that only local contrast
remains."""


@dataclass(frozen=True)
class DetailConfig:
    """Architecture of a detail path.

    Attributes:
        channels: Channels at half resolution; 0 omits the path.
        blocks: Residual blocks.
        norm: Normalisation kind.
    """

    channels: int = 0
    blocks: int = 4
    norm: NormKind = "pixel"


class DetailPath(nn.Module):
    """Adds anatomical detail of the input to a decoded slice; untrained, it adds nothing.

    Args:
        config: Architecture.
        features: Channels of the decoder's last features.
        stem: Pixels per position of those features along a row; a multiple of 2.
        told: Channels of an embedding that modulates the residual blocks; 0: none does.
        beside: Number of neighbouring slices that are seen.
    """

    def __init__(
        self, config: DetailConfig, features: int, stem: int, told: int = 0, beside: int = 0
    ) -> None:
        super().__init__()
        width, self.grown = config.channels, stem // STEM
        self.take = nn.Conv2d(2 * STEM**2, width, 3, padding=1)
        self.context = nn.Conv2d(features, width * self.grown**2, 1)
        self.blocks = nn.Sequential(
            *(ResidualBlock(width, width, config.norm, told) for _ in range(config.blocks))
        )
        self.give = zeroed(nn.Conv2d(width, STEM**2, 3, padding=1))
        entries = beside * STEM**2
        self.beside = zeroed(nn.Conv2d(entries, width, 3, padding=1)) if beside else None

    def forward(
        self,
        restored: Tensor,
        features: Tensor,
        x: Tensor,
        embedding: Tensor | None = None,
        neighbours: Tensor | None = None,
    ) -> Tensor:
        """Add detail to a decoded slice.

        Args:
            restored: Decoded slice [batch, 1, row, column] in [-1, 1].
            features: The decoder's last features [batch, channel, row / stem, column / stem].
            x: Input, of the same shape as ``restored``.
            embedding: Modulation of the blocks [batch, told]; None: none.
            neighbours: Slices beside each [batch, beside, row, column] in [-1, 1]; None: none.

        Returns:
            [batch, 1, row, column].
        """
        seen = torch.cat((x - restored, restored - _local_mean(restored)), dim=1) / UNIT
        hidden = self.take(F.pixel_unshuffle(seen, STEM))
        hidden = hidden + F.pixel_shuffle(self.context(features), self.grown)
        if self.beside is not None and neighbours is not None:
            differences = (neighbours - restored) / UNIT
            hidden = hidden + self.beside(F.pixel_unshuffle(differences, STEM))
        return restored + UNIT * F.pixel_shuffle(
            self.give(modulated(self.blocks, hidden, embedding)), STEM
        )


def _local_mean(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, MEAN_PIXELS, 1, MEAN_PIXELS // 2, count_include_pad=False)

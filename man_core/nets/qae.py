"""Q-AE: autoencoder of quadratic neurons (Fan et al., IEEE TMI 2020, arXiv 1901.05593)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from man_core.nets.single_pass import SinglePassConfig, SinglePassNetwork

DEPTH = 5
"""Number of quadratic convolutions, and of transposed ones."""

SHORTCUTS = {0: 3, 2: 1}
"""Convolution whose output is added to that of a transposed one, by the latter; counted from 0."""


@dataclass(frozen=True)
class QaeConfig(SinglePassConfig):
    """Architecture of a Q-AE; embedded in the weights file.

    Attributes:
        channels: Feature maps of every layer; 15 in the paper.
        kernel: Side of every kernel; 3 in the authors' code.
    """

    channels: int = 15
    kernel: int = 3

    @property
    def reach(self) -> int:
        """Radius of the receptive field: beyond the edges the layers see zeros."""
        return DEPTH * (self.kernel - 1)


class QuadraticConvolution(nn.Module):
    """Quadratic neurons, (w_r x + b_r)(w_g x + b_g) + w_b x² + c, as a convolution.

    Initialised as a linear layer, which the quadratic terms then join: w_g and w_b are zero and b_g
    is one. (With a random w_g the fit diverges.) w_r is initialised for ReLU (He et al. 2015), for
    15 feature maps about the published deviation of 0.1, and larger in the first layer.

    Args:
        into: Feature maps of the input.
        out: Feature maps of the output.
        kernel: Side of the kernels.
        padding: Zeros beyond each edge; of a transposed convolution, pixels cut off.
        transposed: Whether the convolution is transposed.
    """

    def __init__(
        self, into: int, out: int, kernel: int, *, padding: int, transposed: bool = False
    ) -> None:
        super().__init__()
        self.padding = padding
        self.convolve = F.conv_transpose2d if transposed else F.conv2d
        shape = (into, out, kernel, kernel) if transposed else (out, into, kernel, kernel)
        self.w_r, self.w_g, self.w_b = (nn.Parameter(torch.zeros(shape)) for _ in range(3))
        self.b_r, self.b_g, self.c = (nn.Parameter(torch.zeros(out)) for _ in range(3))
        nn.init.kaiming_normal_(self.w_r, nonlinearity="relu")
        nn.init.ones_(self.b_g)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, into, row, column] to [batch, out, row, column]."""
        first = self.convolve(x, self.w_r, self.b_r, padding=self.padding)
        second = self.convolve(x, self.w_g, self.b_g, padding=self.padding)
        return first * second + self.convolve(x.square(), self.w_b, self.c, padding=self.padding)


class Qae(SinglePassNetwork):
    """Five quadratic convolutions and five transposed ones, all but the middle two of equal size.

    Shortcuts lead from the fourth convolution to the first transposed one, from the second to the
    third, and from the input to the output. Two things differ from the paper: the last layer is
    initialised to zero, so that the untrained network returns its input, and values are
    standardised.
    """

    config: QaeConfig

    def __init__(self, config: QaeConfig) -> None:
        super().__init__(config)
        width, kernel = config.channels, config.kernel
        into, same = [1] + [width] * (DEPTH - 1), kernel // 2
        padding = [same] * (DEPTH - 1) + [0]
        self.encoder = nn.ModuleList(
            QuadraticConvolution(count, width, kernel, padding=pad)
            for count, pad in zip(into, padding, strict=True)
        )
        self.decoder = nn.ModuleList(
            QuadraticConvolution(width, count, kernel, padding=pad, transposed=True)
            for count, pad in zip(reversed(into), reversed(padding), strict=True)
        )
        last = self.decoder[-1]
        assert isinstance(last, QuadraticConvolution)
        nn.init.zeros_(last.w_r)

    def denoised(self, standard: Tensor) -> Tensor:
        """Denoise standardised values [batch, 1, row, column]; a side is at least the kernel's."""
        hidden, encoded = standard, []
        for layer in self.encoder:
            hidden = F.relu(layer(hidden))
            encoded.append(hidden)
        for index, layer in enumerate(self.decoder):
            hidden = layer(hidden)
            if index in SHORTCUTS:
                hidden = hidden + encoded[SHORTCUTS[index]]
            hidden = F.relu(hidden) if index < DEPTH - 1 else hidden
        return standard + hidden

"""RED-CNN: residual encoder-decoder network of plain convolutions (Chen et al., IEEE TMI 2017)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from man_core.nets.blocks import zeroed
from man_core.nets.single_pass import SinglePassConfig, SinglePassNetwork

DEPTH = 5
"""Number of convolutions, and of transposed ones (figure 1 of the paper)."""

SHORTCUTS = {0: 3, 2: 1}
"""Convolution whose output is added to that of a transposed one, by the latter; counted from 0."""


@dataclass(frozen=True)
class RedCnnConfig(SinglePassConfig):
    """Architecture of a RED-CNN; embedded in the weights file.

    Attributes:
        channels: Feature maps of every layer; 96 in the paper.
        kernel: Side of every kernel; 5 in the paper.
    """

    channels: int = 96
    kernel: int = 5

    @property
    def reach(self) -> int:
        """Radius of the receptive field: at edges the transposed ones lack a part of their sums."""
        return DEPTH * (self.kernel - 1)


class RedCnn(SinglePassNetwork):
    """Convolutions without padding, then transposed ones that restore the size.

    Shortcuts as in the paper: from the input to the output of the last layer, from the second
    convolution to the third transposed one, and from the fourth to the first. Three things differ
    from the paper. There is no ReLU after the last sum, since standardised values have a sign. The
    last layer is initialised to zero, so that the untrained network returns its input: a short
    training gets further when only the noise must be learned. The other layers are initialised for
    ReLU (He et al. 2015): with PyTorch's default the noise fades over ten layers.
    """

    config: RedCnnConfig

    def __init__(self, config: RedCnnConfig) -> None:
        super().__init__(config)
        width, kernel = config.channels, config.kernel
        into = [1] + [width] * (DEPTH - 1)
        down = [nn.Conv2d(count, width, kernel) for count in into]
        up = [nn.ConvTranspose2d(width, count, kernel) for count in reversed(into)]
        for layer in (*down, *up):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        zeroed(up[-1])
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)

    def denoised(self, standard: Tensor) -> Tensor:
        """Denoise standardised values [batch, 1, row, column]; a side must exceed ``reach``."""
        return standard + self.residual(standard)

    def residual(self, standard: Tensor) -> Tensor:
        """Return the residual to add to the standardised image."""
        hidden, encoded = standard, {}
        for index, layer in enumerate(self.down):
            hidden = F.relu(layer(hidden))
            if index in SHORTCUTS.values():
                encoded[index] = hidden
        for index, layer in enumerate(self.up):
            hidden = layer(hidden)
            if index in SHORTCUTS:
                hidden = hidden + encoded[SHORTCUTS[index]]
            hidden = F.relu(hidden) if index < DEPTH - 1 else hidden
        return hidden

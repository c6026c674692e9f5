"""RED-CNN: residual encoder-decoder network of plain convolutions (Chen et al., IEEE TMI 2017)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from man_core.nets.blocks import zeroed

DEPTH = 5
"""Convolutions, and as many transposed ones (the paper's figure 1)."""

SHORTCUTS = {0: 3, 2: 1}
"""Transposed convolution to the convolution whose output is added to its own, counted from 0."""


@dataclass(frozen=True)
class RedCnnConfig:
    """Everything that builds a RED-CNN; embedded in the weights file.

    Attributes:
        channels: Feature maps of every layer; the paper has 96.
        kernel: Edge of every kernel; the paper has 5.
        centre: Network number that becomes 0 inside; the default is -542.5 HU of the usual range,
            the mean of CT slices in ldct-benchmark.
        scale: Network numbers that become 1 inside; the default is 502.2 HU, their deviation.
    """

    channels: int = 96
    kernel: int = 5
    centre: float = -0.765
    scale: float = 0.2452

    @property
    def reach(self) -> int:
        """How far an output pixel sees, in pixels; edges need as much padding."""
        return DEPTH * (self.kernel - 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class RedCnn(nn.Module):
    """Convolutions without padding, then transposed ones that give the size back.

    Shortcuts as in the paper: the input to the last layer's output, the second convolution's to
    the third transposed one's, the fourth's to the first's. Three things are not the paper's. There
    is no ReLU after the last sum, since standardised values have a sign. And the last layer starts
    at zero, so that the untrained network gives its input back: a short fit comes further when all
    it has to learn is the noise. The other layers start as He et al. (2015) derived for ReLU:
    PyTorch's own start lets the noise fade on its way through ten layers.
    """

    def __init__(self, config: RedCnnConfig) -> None:
        super().__init__()
        self.config = config
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

    def forward(self, x: Tensor) -> Tensor:
        """[batch, 1, row, column] in [-1, 1] to the same; a side must exceed ``reach``."""
        standard = (x - self.config.centre) / self.config.scale
        return (standard + self.residual(standard)) * self.config.scale + self.config.centre

    def restore(self, x: Tensor) -> Tensor:
        """The same for a whole slice of any size, its rim treated like its middle.

        Edges are repeated as far outwards as the network sees; without that the outermost pixels
        would get only a part of what the transposed convolutions add up.
        """
        reach = self.config.reach
        padded = F.pad(x, [reach] * 4, mode="replicate")
        return self(padded)[..., reach:-reach, reach:-reach]  # type: ignore[no-any-return]

    def residual(self, standard: Tensor) -> Tensor:
        """What is added to the standardised image."""
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

"""CNN-10: three convolutions (Chen et al., Biomed Opt Express 2017, 8:679)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from man_core.nets.single_pass import SinglePassConfig, SinglePassNetwork


@dataclass(frozen=True)
class Cnn10Config(SinglePassConfig):
    """Architecture of a CNN-10; embedded in the weights file.

    Attributes:
        channels: Feature maps of the first and of the second layer.
        kernels: Sides of the kernels of the three layers.
    """

    channels: tuple[int, int] = (64, 32)
    kernels: tuple[int, int, int] = (9, 3, 5)


class Cnn10(SinglePassNetwork):
    """Patch extraction, filtering and reconstruction, with ReLU between; edges see zeros."""

    config: Cnn10Config

    def __init__(self, config: Cnn10Config) -> None:
        super().__init__(config)
        (first, second), (patch, middle, last) = config.channels, config.kernels
        self.layers = nn.Sequential(
            nn.Conv2d(1, first, patch, padding=patch // 2),
            nn.ReLU(),
            nn.Conv2d(first, second, middle, padding=middle // 2),
            nn.ReLU(),
            nn.Conv2d(second, 1, last, padding=last // 2),
        )

    def denoised(self, standard: Tensor) -> Tensor:
        """Denoise standardised values [batch, 1, row, column]."""
        return self.layers(standard)  # type: ignore[no-any-return]

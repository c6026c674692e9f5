"""Networks that denoise a slice in one pass, on standardised values."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class SinglePassNetwork(nn.Module, ABC):
    """Network that maps a slice to the denoised one, without sampling.

    The network works on values that are standardised to zero mean and unit deviation, whatever the
    HU range of its card.

    Args:
        centre: Network value that is standardised to 0.
        scale: Network value that is standardised to 1.
    """

    def __init__(self, centre: float, scale: float) -> None:
        super().__init__()
        self.centre, self.scale = centre, scale

    def forward(self, x: Tensor) -> Tensor:
        """Denoise [batch, 1, row, column] in [-1, 1]."""
        return self.denoised((x - self.centre) / self.scale) * self.scale + self.centre

    def restore(self, x: Tensor) -> Tensor:
        """Denoise whole slices of any size [batch, 1, row, column] in [-1, 1]."""
        return self(x)  # type: ignore[no-any-return]

    @abstractmethod
    def denoised(self, standard: Tensor) -> Tensor:
        """Denoise standardised values [batch, 1, row, column]."""

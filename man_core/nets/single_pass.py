"""Networks that denoise a slice in one pass, on standardised values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

CT_CENTRE = -0.765
"""Network value of -542.5 HU in the default range: the mean of CT slices in ldct-benchmark."""

CT_SCALE = 0.2452
"""Network value of 502.2 HU in the default range: their standard deviation."""


@dataclass(frozen=True)
class SinglePassConfig:
    """Standardisation of a network; its architecture follows in each kind.

    Attributes:
        centre: Network value that is standardised to 0.
        scale: Network value that is standardised to 1.
    """

    centre: float = CT_CENTRE
    scale: float = CT_SCALE

    @property
    def reach(self) -> int:
        """Padding of whole slices, pixels: the receptive field where edges would show; else 0."""
        return 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; they are embedded in the weights file."""
        return asdict(self)


class SinglePassNetwork(nn.Module, ABC):
    """Network that maps a slice to the denoised one, without sampling.

    The network works on values that are standardised to zero mean and unit deviation, whatever the
    HU range of its card.

    Args:
        config: Standardisation and architecture.
    """

    config: SinglePassConfig

    def __init__(self, config: SinglePassConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        """Denoise [batch, 1, row, column] in [-1, 1]."""
        centre, scale = self.config.centre, self.config.scale
        return self.denoised(self.standardised(x)) * scale + centre

    def standardised(self, x: Tensor) -> Tensor:
        """Standardise values in [-1, 1]."""
        return (x - self.config.centre) / self.config.scale

    def restore(self, x: Tensor) -> Tensor:
        """Denoise whole slices of any size [batch, 1, row, column] in [-1, 1].

        Edge pixels are replicated over the reach, so that the border is denoised like the centre.
        """
        reach = self.config.reach
        if not reach:
            return self(x)  # type: ignore[no-any-return]
        padded = F.pad(x, [reach] * 4, mode="replicate")
        return self(padded)[..., reach:-reach, reach:-reach]  # type: ignore[no-any-return]

    @abstractmethod
    def denoised(self, standard: Tensor) -> Tensor:
        """Denoise standardised values [batch, 1, row, column]."""

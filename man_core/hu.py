"""HU to network numbers and back; the only such arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the node's receiver reads cards without loading torch
    import torch

Array = TypeVar("Array", "NDArray[np.float32]", "torch.Tensor")

CLIPPED_HU = -1023.0
"""At and below it twelve-bit CT is cut off: the mean of clipped noise is no mean."""


@dataclass(frozen=True)
class HuRange:
    """The interval of HU that a network sees as [-1, 1]; values outside are clipped on the way in.

    Attributes:
        low: HU that becomes -1.
        high: HU that becomes +1.
    """

    low: float = -1024.0
    high: float = 3072.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"a HU range must rise, got {self.low} to {self.high}")

    @property
    def half_width(self) -> float:
        """HU of one network number."""
        return (self.high - self.low) / 2.0

    def to_network(self, hu: Array) -> Array:
        """HU to [-1, 1], clipped."""
        inside = hu.clip(self.low, self.high)
        return (inside - self.low) * (1.0 / self.half_width) - 1.0  # type: ignore[return-value]

    def to_hu(self, value: Array) -> Array:
        """[-1, 1] to HU, not clipped."""
        return (value + 1.0) * self.half_width + self.low

"""Conversion between HU and network values, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the node's receiver reads cards without loading torch
    import torch

Array = TypeVar("Array", "NDArray[np.float32]", "torch.Tensor")

CLIPPED_HU = -1023.0
"""Twelve-bit CT is clipped here and below; a mean over clipped noise is biased."""


@dataclass(frozen=True)
class HuRange:
    """HU interval that a network sees as [-1, 1]; values outside are clipped on input.

    Attributes:
        low: HU that maps to -1.
        high: HU that maps to +1.
    """

    low: float = -1024.0
    high: float = 3072.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"A HU range must rise, got {self.low} to {self.high}.")

    @property
    def half_width(self) -> float:
        """HU per unit of network values."""
        return (self.high - self.low) / 2.0

    def to_network(self, hu: Array) -> Array:
        """Map HU to [-1, 1], clipped."""
        inside = hu.clip(self.low, self.high)
        return (inside - self.low) * (1.0 / self.half_width) - 1.0  # type: ignore[return-value]

    def to_hu(self, value: Array) -> Array:
        """Map [-1, 1] to HU, not clipped."""
        return (value + 1.0) * self.half_width + self.low

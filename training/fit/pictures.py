"""Sample pictures of a fit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def strip(crops: Sequence[Tensor], window_hu: tuple[float, float]) -> Tensor:
    """Crops [row, column] in HU side by side in [0, 1] of a window."""
    low, high = window_hu
    return ((torch.cat(tuple(crops), dim=1) - low) / (high - low)).clamp(0, 1)

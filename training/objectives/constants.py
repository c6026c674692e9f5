"""Constant tensors of losses, made once per device: each copy to a GPU would wait for it."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

Values = tuple[float, ...] | tuple[tuple[float, ...], ...]


@lru_cache(maxsize=64)
def constant(values: Values, device: torch.device) -> Tensor:
    """Return values as a float32 tensor on a device, which nobody may change."""
    return torch.tensor(values, device=device)

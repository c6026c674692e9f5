"""Weights without random numbers, so that results can be compared with written ones."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def regular(network: Network, scale: float = 0.08) -> Network:
    """Fill every parameter with a sine of the positions of its values; no layer is zero."""
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters(), start=1):
            place = torch.arange(parameter.numel(), dtype=torch.float64)
            values = scale * torch.sin(0.7 * number + 1.3 * place)
            parameter.copy_(values.view(parameter.shape))
    return network

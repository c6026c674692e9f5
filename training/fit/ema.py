"""Exponential moving average of the weights, which is validated and exported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Averaged copies of parameters, in the order in which they were given.

    The decay starts low, min(decay, (1 + n) / (10 + n)) after n updates, so that the average
    soon forgets the initial values.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.averages = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def update(self, parameters: Iterable[nn.Parameter]) -> None:
        """Update the averages with the current values."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.averages, [p.detach() for p in parameters], 1 - decay)

    @contextmanager
    def in_place(self, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
        """Replace the parameters by their averages within the context."""
        held = list(parameters)
        own = [p.detach().clone() for p in held]
        _copy(self.averages, held)
        try:
            yield
        finally:
            _copy(own, held)

    def state_dict(self) -> dict[str, object]:
        """Return the averages and the number of updates."""
        return {"updates": self.updates, "averages": self.averages}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Restore ``state_dict``."""
        averages = state["averages"]
        assert isinstance(averages, list)
        self.updates = int(str(state["updates"]))
        _copy(averages, self.averages)


@torch.no_grad()
def _copy(source: list[Tensor], target: Iterable[Tensor]) -> None:
    for values, held in zip(source, target, strict=True):
        held.copy_(values)

"""A fit of one factor, small enough to be watched step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.data.batch import Batch, BatchSource
from training.fit.task import Moment, RunFacts, Validation


class LineTask:
    """Learns one factor; tests say how its loss is spoiled.

    Attributes:
        started: How often a fit has begun with it.
    """

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.model = nn.Linear(1, 1)
        nn.init.constant_(self.model.weight, 0.5)
        nn.init.zeros_(self.model.bias)
        self.started = 0

    def parameters(self) -> list[nn.Parameter]:
        return list(self.model.parameters())

    def networks(self) -> list[nn.Module]:
        return [self.model]

    def initialise(self, path: Path) -> None:
        raise NotImplementedError

    def start(self, source: BatchSource) -> None:
        self.started += 1

    def loss(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        raise NotImplementedError

    def validate(self, batches: Sequence[Batch]) -> Validation:
        return Validation({"score": float(self.model.weight.detach())}, {"p": torch.eye(4)})

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])

    def export(self, folder: Path, facts: RunFacts) -> Path:
        raise NotImplementedError


class Numbers:
    """Batches of random numbers, each decided by its index."""

    def batch(self, index: int) -> Batch:
        values = torch.randn(1, 1, 2, 2, generator=torch.Generator().manual_seed(index))
        one = torch.ones(1)
        return Batch(values, values, one, torch.zeros(1, 4), one)

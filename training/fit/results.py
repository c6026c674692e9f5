"""Results of steps that were launched, read for several steps at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor


@dataclass(frozen=True)
class Terms:
    """Loss terms of a step on the device.

    Attributes:
        names: Their names.
        values: float64 [name].
    """

    names: tuple[str, ...]
    values: Tensor


@dataclass(frozen=True)
class Result:
    """Result of one step.

    Attributes:
        step: Steps done before it.
        progress: Progress at its start.
        scalars: Loss terms, norm of the gradient and learning rate.
    """

    step: int
    progress: float
    scalars: dict[str, float]


class Unread:
    """Results that are still on the device, or not computed yet."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Result, Terms]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, result: Result, terms: Terms) -> None:
        """Add a step; the terms join its scalars when they are read."""
        self._waiting.append((result, terms))

    def read(self) -> list[Result]:
        """Return the results of all steps in their order, which waits for the device."""
        if not self._waiting:
            return []
        waiting, self._waiting = self._waiting, []
        values = iter(torch.cat([terms.values for _, terms in waiting]).tolist())
        return [
            Result(one.step, one.progress, _named(terms, values) | one.scalars)
            for one, terms in waiting
        ]


def _named(terms: Terms, values: Iterator[float]) -> dict[str, float]:
    return dict(zip(terms.names, islice(values, len(terms.names)), strict=True))

"""What the one loop asks of a recipe: the seam between the loop and the objectives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from training.data.batch import Batch, BatchSource


@dataclass(frozen=True)
class Moment:
    """Where in the fit a loss is asked for.

    Attributes:
        step: Optimiser steps done so far.
        progress: 0 at the start to 1 at the end, by steps or by time, whichever is further;
            ramps of loss terms hang on this.
        generator: Random numbers of this batch, on the task's device; its number decides them.
    """

    step: int
    progress: float
    generator: torch.Generator


@dataclass(frozen=True)
class Validation:
    """What a validation found.

    Attributes:
        scalars: Name to value; must hold ``score``, of which lower is better.
        pictures: Name to float [row, column] in [0, 1], ready to be drawn.
    """

    scalars: dict[str, float]
    pictures: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFacts:
    """What the model card says of a fit.

    Attributes:
        data: Name of the training set and how many patients and slices it holds.
        steps: Optimiser steps done.
        seconds: Wall-clock time of fitting.
        hardware: Where it was fitted.
    """

    data: str
    steps: int
    seconds: float
    hardware: str


def side_by_side(crops: Sequence[Tensor], window_hu: tuple[float, float]) -> Tensor:
    """Join crops [row, column] in HU into one picture in [0, 1] of a window."""
    low, high = window_hu
    return ((torch.cat(tuple(crops), dim=1) - low) / (high - low)).clamp(0, 1)


class Task(Protocol):
    """A model with its objective; all else (optimiser, EMA, journal, resume) is the loop's."""

    device: torch.device

    def parameters(self) -> Iterable[nn.Parameter]:
        """The values being fitted, always in the same order; frozen parts left out."""
        ...

    def initialise(self, path: Path) -> None:
        """Take weights from another run or file (``--init``); before ``start``.

        Raises:
            TrainingError: The path holds nothing this task can start from.
        """
        ...

    def start(self, source: BatchSource) -> None:
        """Data-dependent preparation, once in a fresh fit (PCA, latent statistics)."""
        ...

    def loss(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Scalar tensors by name; ``loss`` is the one that is differentiated."""
        ...

    def validate(self, batches: Sequence[Batch]) -> Validation:
        """Measure on held-out batches, given on the CPU; averaged (EMA) weights are in place."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on, frozen parts and statistics too (safe for torch.load)."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The reverse of ``state_dict``."""
        ...

    def export(self, folder: Path, facts: RunFacts) -> Path:
        """Write weights and card into ``folder`` (averaged weights in place); give the card."""
        ...

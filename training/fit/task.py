"""Interface between the training loop and the tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from man_core.ancestry import Ancestor
from training.data.batch import Batch, BatchSource
from training.fit.ranks import Ranks


@dataclass(frozen=True)
class Moment:
    """Point of a fit at which a loss is computed.

    Attributes:
        step: Optimiser steps done so far.
        progress: 0 at the start to 1 at the end, by steps or by time, whichever is further; ramps
            of loss terms depend on it.
        generator: Random numbers of this batch on the device of the task, seeded by its number.
        ranks: Processes that fit together, for what a task itself trains beside its parameters.
    """

    step: int
    progress: float
    generator: torch.Generator
    ranks: Ranks = field(default_factory=Ranks)


@dataclass(frozen=True)
class Validation:
    """Result of a validation.

    Attributes:
        scalars: Values by name; ``score`` is required, lower is better.
        pictures: Images float [row, column] in [0, 1] by name.
    """

    scalars: dict[str, float]
    pictures: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFacts:
    """Facts of a fit for the model card.

    Attributes:
        data: Name of the training set with its numbers of patients and slices.
        steps: Optimiser steps done.
        seconds: Wall-clock time of fitting.
        hardware: Hardware of the fit.
        started_from: Weights that it started from and their own origins, the newest first; None if
            the run was begun by a version that did not record them.
    """

    data: str
    steps: int
    seconds: float
    hardware: str
    started_from: tuple[Ancestor, ...] | None = ()

    @property
    def trained_on(self) -> str:
        """Sentence for a card."""
        minutes = self.seconds / 60
        return f"{self.data}; {self.steps} steps in {minutes:.0f} min on {self.hardware}"


def side_by_side(crops: Sequence[Tensor], window_hu: tuple[float, float]) -> Tensor:
    """Join crops [row, column] in HU into one picture in [0, 1] of a window."""
    low, high = window_hu
    return ((torch.cat(tuple(crops), dim=1) - low) / (high - low)).clamp(0, 1)


class Task(Protocol):
    """A model with its objective; the loop does the rest (optimiser, EMA, journal, resuming)."""

    device: torch.device

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return the trained parameters, always in the same order, without frozen ones."""
        ...

    def networks(self) -> Sequence[nn.Module]:
        """Return the modules whose ``forward`` a step calls, for ``torch.compile``."""
        ...

    def initialise(self, path: Path) -> None:
        """Load initial weights from another run or file (``--init``); called before ``start``.

        Raises:
            TrainingError: The path contains nothing this task can start from.
        """
        ...

    def start(self, source: BatchSource) -> None:
        """Prepare from the data, once in a new fit (PCA, latent statistics)."""
        ...

    def loss(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """Return scalar tensors by name; ``loss`` is differentiated."""
        ...

    def validate(self, batches: Sequence[Batch]) -> Validation:
        """Measure on held-out batches on the CPU; averaged (EMA) weights are in place."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to resume, with frozen parts and statistics."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore ``state_dict``."""
        ...

    def export(self, folder: Path, facts: RunFacts) -> Path:
        """Write weights and card into ``folder`` (averaged weights in place); return the card."""
        ...

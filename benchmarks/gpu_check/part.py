"""Common types of the checks: parts, figures, the budget of time, and what all parts are given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.gpu_check.presets import Preset
from benchmarks.phantoms import noisy_phantom
from man_core import Volume


class OverBudgetError(Exception):
    """A part has used up its time."""


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        name: Name in the table.
        value: Value; None where it could not be measured.
        unit: Unit of the value.
        passed: Verdict of a check; None: the figure is not judged.
        note: Remark for the reader.
    """

    name: str
    value: float | str | None
    unit: str = ""
    passed: bool | None = None
    note: str = ""


class Budget:
    """Time of one part.

    Args:
        seconds: Length.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._begin = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._begin

    @property
    def left(self) -> float:
        """Seconds that are left; negative beyond the end."""
        return self.seconds - self.spent

    def check(self) -> None:
        """Raise ``OverBudgetError`` if no time is left."""
        if self.left <= 0:
            raise OverBudgetError


@dataclass(frozen=True)
class Bench:
    """Input of every part.

    Attributes:
        device: Device under check.
        preset: Sizes.
        cards: Cards of further models to be checked.
        folder: Folder of this part for its files.
        budget: Time of this part.
    """

    device: torch.device
    preset: Preset
    cards: Sequence[Path]
    folder: Path
    budget: Budget

    def volume(self, slices: int) -> Volume:
        """Make the low-dose series that all parts denoise, with a number of slices."""
        return noisy_phantom(slices, size=self.preset.size)


Run = Callable[[Bench], Iterator[Figure]]
"""Yields the figures of a part, each as soon as it is measured."""


@dataclass(frozen=True)
class Part:
    """A kind of check.

    Attributes:
        name: Name in the table.
        share: Share of the time, seconds of the full preset; what a part leaves over goes to the
            later ones.
    """

    name: str
    share: float


@dataclass
class Outcome:
    """Result of one part.

    Attributes:
        name: Name of the part.
        state: ``done``, ``cut``, ``not run`` or ``failed``.
        reason: Reason of another state than ``done``.
        budget_seconds: Time that it was given.
        seconds: Time that it took.
        figures: Its figures.
    """

    name: str
    state: str = "done"
    reason: str = ""
    budget_seconds: float = 0.0
    seconds: float = 0.0
    figures: list[Figure] = field(default_factory=list)

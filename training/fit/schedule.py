"""Budget, clock and learning rate of a fit that is limited by steps or by time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from training.settings import FitSettings


@dataclass(frozen=True)
class Budget:
    """Budget of a fit.

    Attributes:
        steps: Maximum number of optimiser steps.
        seconds: Maximum time over all resumed parts; None for no limit.
    """

    steps: int
    seconds: float | None = None

    def progress(self, step: int, elapsed: float) -> float:
        """Return the progress from 0 to 1, by steps or by time, whichever is further."""
        by_time = elapsed / self.seconds if self.seconds else 0.0
        return min(1.0, max(step / self.steps, by_time))


@dataclass
class Clock:
    """Time of fitting over all parts of a resumed run, seconds."""

    before: float = 0.0
    started: float | None = None

    def start(self) -> None:
        """Start counting."""
        self.started = time.monotonic()

    def stop(self) -> None:
        """Stop counting."""
        self.before, self.started = self.elapsed(), None

    def elapsed(self) -> float:
        """Return the seconds counted so far."""
        return self.before + (time.monotonic() - self.started if self.started is not None else 0.0)


def learning_rate(fit: FitSettings, step: int, progress: float) -> float:
    """Compute the learning rate: linear warm-up by steps, then a half cosine by progress."""
    span = fit.learning_rate - fit.last_learning_rate
    cosine = fit.last_learning_rate + span * (1 + math.cos(math.pi * progress)) / 2
    return cosine * min(1.0, (step + 1) / (fit.warmup_steps + 1))

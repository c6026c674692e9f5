"""Training loop of every recipe.

The host launches steps on a GPU without waiting for their results; it reads the loss terms of
several steps at once. A step that is not finite changes no weights on any device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.data.batch import Batch, BatchSource
from training.errors import TrainingError
from training.fit.journal import Journal
from training.fit.optimiser import Optimiser
from training.fit.pace import Pace
from training.fit.precision import mixed_precision
from training.fit.ranks import Ranks
from training.fit.results import Result, Terms, Unread
from training.fit.schedule import Budget, Clock, learning_rate
from training.fit.state import load_state, save_state
from training.fit.task import Moment, Task
from training.settings import Recipe

OnStep = Callable[[int, float, dict[str, float]], None]

ALONE = Ranks()
"""One process, without ``torchrun``."""

MAX_STEPS_AHEAD = 20
"""Steps launched on a GPU before their loss terms are read."""


class Fit:
    """One run: a task with its optimiser, averaged weights and progress.

    Args:
        recipe: Recipe of the fit.
        task: Model with its objective.
        run: Existing folder of checkpoints and journal.
        budget: Maximum steps and time.
        source: Batches of the training split.
        held_out: Batches of the validation split; may be empty.
        ranks: Processes that fit together; only the first one validates and saves.
        steps_ahead: Steps whose loss terms are read together; None: ``MAX_STEPS_AHEAD`` on a GPU,
            else each step is read at once.
    """

    def __init__(
        self,
        recipe: Recipe,
        task: Task,
        run: Path,
        budget: Budget,
        source: BatchSource,
        held_out: Sequence[Batch],
        ranks: Ranks = ALONE,
        steps_ahead: int | None = None,
    ) -> None:
        self.recipe = recipe
        self.task = task
        self.run = run
        self.budget = budget
        self.source = source
        self.held_out = held_out
        self.ranks = ranks
        self.step = 0
        self.skipped = 0
        self.bad_in_a_row = 0
        self.stopped = False
        self._asked_to_stop = False
        self.clock = Clock()
        self.pace = Pace(task.device)
        self.steps_ahead = steps_ahead or (1 if task.device.type == "cpu" else MAX_STEPS_AHEAD)
        self._unread = Unread()

    def start(self) -> None:
        """Prepare a new fit: the task first, then optimiser and averages."""
        self.task.start(self.source)
        if self.ranks.size > 1:  # machines may round differently, but all must start equal
            self.task.load_state_dict(self.ranks.from_first(self.task.state_dict))
        self._attach()

    def resume(self) -> None:
        """Resume from the newest checkpoint of the run.

        Raises:
            TrainingError: There is none.
        """
        state = self.ranks.from_first(lambda: load_state(self.run))
        if state is None:
            raise TrainingError(f"{self.run} contains no checkpoint to resume from; omit --resume.")
        self.task.load_state_dict(state["task"])
        self._attach()
        self.optimiser.load_state_dict(state["optimiser"])
        self.optimiser.ema.load_state_dict(state["ema"])
        self.step, self.skipped = state["step"], state["skipped"]
        self.clock.before = state["seconds"]

    def _attach(self) -> None:
        self.optimiser = Optimiser(
            self.task.parameters(), self.recipe.fit, deferred=self.steps_ahead > 1
        )

    def stop(self) -> None:
        """Request the fit to end after the current step, on all ranks, with a checkpoint."""
        self._asked_to_stop = True

    def train(self, journal: Journal | None, on_step: OnStep | None = None) -> None:
        """Fit until the budget is spent; save regularly and at the end.

        Args:
            journal: Receives metrics and pictures; None if another rank writes it.
            on_step: Callback after each step with (step, progress, loss terms).

        Raises:
            TrainingError: Loss or gradient was not finite in too many consecutive steps.
        """
        self.clock.start()
        saved = time.monotonic()
        if self.step == 0:
            self.save()
        while (progress := self._progress()) < 1.0 and not self.stopped:
            with self.pace.timed(steps=1):
                self._launch(progress)
            if self._must_read():
                self._report(self._read(), journal, on_step)
            if self.step % self.recipe.validation.every == 0:
                self._validate(journal)
            if time.monotonic() - saved >= self.recipe.journal.save_seconds:
                self._report(self._read(), journal, on_step)
                self.save()
                saved = time.monotonic()
        self._report(self._read(), journal, on_step)
        if not self.stopped:
            self._validate(journal)
        self.clock.stop()
        self.save()

    def _progress(self) -> float:
        """Return the progress by the clock of the first rank; a stop of any rank stops all."""
        own = self.budget.progress(self.step, self.clock.elapsed())
        progress, self.stopped = self.ranks.agreed(own, self._asked_to_stop)
        return progress

    def _launch(self, progress: float) -> None:
        """Make one optimiser step without waiting for its results."""
        rate = learning_rate(self.recipe.fit, self.step, progress)
        self.optimiser.zero_grad()
        terms = self._gradients(progress)
        averaged = self.ranks.average(self.optimiser.parameters, terms.values)
        norm = self.optimiser.step(rate)
        values = torch.cat((averaged.double(), norm.double().view(1)))
        self._unread.add(
            Result(self.step, progress, {"learning_rate": rate}),
            Terms((*terms.names, "gradient_norm"), values),
        )
        self.step += 1

    def _gradients(self, progress: float) -> Terms:
        """Accumulate gradients of the batches of this rank; ranks share the batches of a step."""
        accumulate = self.recipe.fit.accumulate
        names: tuple[str, ...] = ()
        total = torch.zeros((), dtype=torch.float64, device=self.task.device)
        for part in range(accumulate):
            number = (self.step * accumulate + part) * self.ranks.size + self.ranks.rank
            with self.pace.fetching():
                batch = self.source.batch(number).to(self.task.device)
            with mixed_precision(self.task.device, self.recipe.fit.amp):
                moment = Moment(self.step, progress, self._random(number), self.ranks)
                losses = self.task.loss(batch, moment)
            (losses["loss"] / accumulate).backward()  # type: ignore[no-untyped-call]
            names = tuple(losses)
            values = torch.stack([value.detach().double() for value in losses.values()])
            total = total + values / accumulate
        return Terms(names, total)

    def _must_read(self) -> bool:
        """Return whether results are due: enough steps are launched, or the last is reported."""
        every = (self.recipe.journal.log_every, self.recipe.validation.every)
        return len(self._unread) >= self.steps_ahead or any(self.step % n == 0 for n in every)

    def _read(self) -> list[Result]:
        """Wait for the device; return the results of all launched steps."""
        with self.pace.timed():
            results = self._unread.read()
        self.pace.collect()
        return results

    def _report(
        self, results: Sequence[Result], journal: Journal | None, on_step: OnStep | None
    ) -> None:
        """Count skipped steps and write the journal."""
        for one in results:
            self._count(one)
            done = one.step + 1
            if journal and done % self.recipe.journal.log_every == 0:
                seconds = {"seconds": round(self.clock.elapsed(), 1)}
                journal.write("fit", done, {**one.scalars, **seconds, **self.pace.since_last()})
            if on_step:
                on_step(done, one.progress, one.scalars)

    def _count(self, result: Result) -> None:
        finite = math.isfinite(result.scalars["gradient_norm"])
        self.bad_in_a_row = 0 if finite else self.bad_in_a_row + 1
        self.skipped += not finite
        if self.bad_in_a_row >= self.recipe.fit.bad_steps:
            raise TrainingError(
                f"The fit stopped at step {result.step}: loss or gradient was not finite "
                f"{self.bad_in_a_row} times in a row; try a lower learning rate."
            )

    def _random(self, number: int) -> torch.Generator:
        """Seed the random numbers of a batch, so that a resumed fit draws the same ones."""
        seed = (self.recipe.seed << 32) + number
        torch.manual_seed(seed)  # for layers that draw from the global generator
        return torch.Generator(self.task.device).manual_seed(seed)

    def _validate(self, journal: Journal | None) -> None:
        if not (self.held_out and journal):
            return
        with self.optimiser.ema.in_place(self.task.parameters()), torch.no_grad():
            found = self.task.validate(self.held_out)
        journal.write("validation", self.step, found.scalars)
        for name, pixels in found.pictures.items():
            journal.picture(name, self.step, pixels)

    def save(self) -> None:
        """Write a checkpoint with everything needed to resume; only on the first rank.

        Raises:
            TrainingError: Weights are not finite; the checkpoints before are kept.
        """
        if not self.ranks.leads:
            return
        if not self.optimiser.are_finite():
            raise TrainingError(
                f"The fit stopped at step {self.step}: weights are not finite, so no checkpoint "
                f"was written; start another fit with --init {self.run} and a lower learning rate."
            )
        with self.optimiser.ema.in_place(self.task.parameters()):
            swapped = {p.data_ptr() for p in self.optimiser.parameters}
            averaged = _cloned(self.task.state_dict(), swapped)
        state = {
            "step": self.step,
            "seconds": self.clock.elapsed(),
            "skipped": self.skipped,
            "task": self.task.state_dict(),
            "averaged": averaged,
            "optimiser": self.optimiser.state_dict(),
            "ema": self.optimiser.ema.state_dict(),
        }
        save_state(self.run, self.step, state)


def _cloned(state: Any, swapped: Set[int]) -> Any:
    """Return a copy, independent of later changes of the weights at some addresses.

    Everything else is shared with the state of the task, and stored once in a checkpoint.
    """
    if isinstance(state, Tensor):
        return state.detach().clone() if state.data_ptr() in swapped else state
    if isinstance(state, dict):
        return {name: _cloned(value, swapped) for name, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_cloned(value, swapped) for value in state)
    return state

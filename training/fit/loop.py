"""Training loop of every recipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.data.batch import Batch, BatchSource
from training.errors import TrainingError
from training.fit.ema import Ema
from training.fit.journal import Journal
from training.fit.ranks import Ranks
from training.fit.schedule import Budget, Clock, learning_rate
from training.fit.state import load_state, save_state
from training.fit.task import Moment, Task
from training.settings import Recipe

OnStep = Callable[[int, float, dict[str, float]], None]

ALONE = Ranks()
"""One process, without ``torchrun``."""

CPU_FEATURES = ("avx512_bf16", "amx_bf16")
"""CPU features with native bfloat16. Other CPUs emulate it: on an AMD EPYC with AVX2 a step of
man-diffusion takes 14 s with it."""


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
        self.ema.load_state_dict(state["ema"])
        self.step, self.skipped = state["step"], state["skipped"]
        self.clock.before = state["seconds"]

    def _attach(self) -> None:
        fit = self.recipe.fit
        self.optimiser = torch.optim.AdamW(
            self.task.parameters(),
            lr=fit.learning_rate,
            betas=fit.betas,
            weight_decay=fit.weight_decay,
        )
        self.ema = Ema(self.task.parameters(), fit.ema)

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
            scalars = self._one_step(progress)
            self._report(journal, progress, scalars, on_step)
            if time.monotonic() - saved >= self.recipe.journal.save_seconds:
                self.save()
                saved = time.monotonic()
        if not self.stopped:
            self._validate(journal)
        self.clock.stop()
        self.save()

    def _progress(self) -> float:
        """Return the progress by the clock of the first rank; a stop of any rank stops all."""
        own = self.budget.progress(self.step, self.clock.elapsed())
        progress, self.stopped = self.ranks.agreed(own, self._asked_to_stop)
        return progress

    def _report(
        self,
        journal: Journal | None,
        progress: float,
        scalars: dict[str, float],
        on_step: OnStep | None,
    ) -> None:
        if journal and self.step % self.recipe.journal.log_every == 0:
            journal.write("fit", self.step, {**scalars, "seconds": round(self.clock.elapsed(), 1)})
        if self.step % self.recipe.validation.every == 0:
            self._validate(journal)
        if on_step:
            on_step(self.step, progress, scalars)

    def _one_step(self, progress: float) -> dict[str, float]:
        """Make one optimiser step; skip it if loss or gradient is not finite."""
        rate = learning_rate(self.recipe.fit, self.step, progress)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        scalars = self.ranks.average(self.task.parameters(), self._gradients(progress))
        norm = torch.nn.utils.clip_grad_norm_(self.task.parameters(), self.recipe.fit.clip)
        finite = bool(torch.isfinite(norm))
        if finite:
            self.optimiser.step()
            self.ema.update(self.task.parameters())
        self._count(finite)
        self.step += 1
        return {**scalars, "gradient_norm": float(norm), "learning_rate": rate}

    def _gradients(self, progress: float) -> dict[str, float]:
        """Accumulate gradients of the batches of this rank; ranks share the batches of a step."""
        total: dict[str, float] = {}
        accumulate = self.recipe.fit.accumulate
        for part in range(accumulate):
            number = (self.step * accumulate + part) * self.ranks.size + self.ranks.rank
            batch = self.source.batch(number).to(self.task.device)
            with mixed_precision(self.task.device, self.recipe.fit.amp):
                losses = self.task.loss(batch, Moment(self.step, progress, self._random(number)))
            (losses["loss"] / accumulate).backward()  # type: ignore[no-untyped-call]
            for name, value in losses.items():
                total[name] = total.get(name, 0.0) + float(value.detach()) / accumulate
        return total

    def _count(self, finite: bool) -> None:
        self.bad_in_a_row = 0 if finite else self.bad_in_a_row + 1
        self.skipped += not finite
        if self.bad_in_a_row >= self.recipe.fit.bad_steps:
            raise TrainingError(
                f"The fit stopped at step {self.step}: loss or gradient was not finite "
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
        with self.ema.in_place(self.task.parameters()), torch.no_grad():
            found = self.task.validate(self.held_out)
        journal.write("validation", self.step, found.scalars)
        for name, pixels in found.pictures.items():
            journal.picture(name, self.step, pixels)

    def save(self) -> None:
        """Write a checkpoint with everything needed to resume; only on the first rank."""
        if not self.ranks.leads:
            return
        with self.ema.in_place(self.task.parameters()):
            averaged = _cloned(self.task.state_dict())
        state = {
            "step": self.step,
            "seconds": self.clock.elapsed(),
            "skipped": self.skipped,
            "task": self.task.state_dict(),
            "averaged": averaged,
            "optimiser": self.optimiser.state_dict(),
            "ema": self.ema.state_dict(),
        }
        save_state(self.run, self.step, state)


def _cloned(state: Any) -> Any:
    """Return a deep copy, independent of later changes of the weights."""
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {name: _cloned(value) for name, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_cloned(value) for value in state)
    return state


def mixed_precision(device: torch.device, wanted: bool) -> torch.autocast:
    """Return a bfloat16 autocast, enabled if wanted and native to the device."""
    return torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=wanted and computes_in_bfloat16(device)
    )


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether the device has native bfloat16: a GPU, or a CPU with ``CPU_FEATURES``."""
    if device.type != "cpu":
        return True
    features = torch.cpu.get_capabilities()
    return any(features.get(name, False) for name in CPU_FEATURES)

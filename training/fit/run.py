"""Command ``man-train fit``: from a recipe to a run."""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from man_core.ancestry import Ancestor
from training.data.batch import BatchSource
from training.data.device import device_named
from training.data.loading import fit_batches, held_out_batches
from training.data.manifest import load_manifest
from training.errors import TrainingError
from training.fit.ancestry import ancestors_of, recorded_ancestors, run_facts
from training.fit.journal import Journal
from training.fit.loop import Fit, OnStep
from training.fit.precision import gpu_arithmetic
from training.fit.ranks import Ranks, joined
from training.fit.schedule import Budget
from training.fit.state import (
    FACTS_FILE,
    RECIPE_FILE,
    load_run_recipe,
    require_state,
    save_json,
)
from training.fit.task import RunFacts, Task
from training.fit.tasks.build import build_task
from training.settings import Recipe

Display = Callable[[str], AbstractContextManager[OnStep | None]]
"""Display of the progress of a fit: takes a title, yields a callback for each step."""


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit on the command line.

    Attributes:
        data: Folder of the training set.
        run: Folder of the run.
        resume: Whether to resume the run instead of starting it.
        init: Run or weights to start from.
        steps: Optimiser steps instead of the recipe's.
        max_minutes: Maximum wall-clock time over all resumed parts.
        device: ``auto``, ``cpu`` or ``cuda``.
        compile: Whether to compile the networks; None: as the recipe says.
    """

    data: Path
    run: Path
    resume: bool = False
    init: Path | None = None
    steps: int | None = None
    max_minutes: float | None = None
    device: str = "auto"
    compile: bool | None = None


def _hidden(_title: str) -> AbstractContextManager[None]:
    return nullcontext()


def fit(recipe: Recipe, options: FitOptions, display: Display = _hidden) -> Fit:
    """Fit a recipe to a set, from the start or from the last checkpoint of a run.

    Returns:
        The finished fit.

    Raises:
        TrainingError: The set, the run or the initial weights cannot be used, or the fit diverged.
    """
    with joined() as ranks:
        recipe = ranks.from_first(lambda: _recipe_of_run(recipe, options))
        task = build_task(recipe, device_named(options.device))
        workers = _loading_workers(task.device, ranks)
        batches = fit_batches(options.data, recipe, task.device, workers=workers, stride=ranks.size)
        with gpu_arithmetic(recipe.fit.tf32), batches as source:
            return _fitted(recipe, task, source, options, ranks, display)


def _fitted(
    recipe: Recipe,
    task: Task,
    source: BatchSource,
    options: FitOptions,
    ranks: Ranks,
    display: Display,
) -> Fit:
    held_out = held_out_batches(options.data, recipe) if ranks.leads else []
    budget = Budget(recipe.fit.steps, options.max_minutes * 60 if options.max_minutes else None)
    run = Fit(recipe, task, options.run, budget, source, held_out, ranks)
    _begin(run, options)
    if recipe.fit.compile:
        for network in task.networks():
            network.compile(dynamic=False)
    with _stopped_by_signals(run):
        if ranks.leads:
            with Journal(options.run) as journal, display(recipe.method) as on_step:
                run.train(journal, on_step)
            _save_facts(run, options, recorded_ancestors(options.run))
        else:
            run.train(None)
    return run


@contextmanager
def _stopped_by_signals(run: Fit) -> Iterator[None]:
    """End the fit after the current step, with a checkpoint, on SIGINT and SIGTERM."""
    before = {
        number: signal.signal(number, lambda *_: run.stop())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _loading_workers(device: torch.device, ranks: Ranks) -> int:
    """Return the workers for batches: beside a GPU the cores are free, a CPU's fit uses them."""
    cores = (os.cpu_count() or 1) // ranks.on_this_machine
    return max(1, min(8, cores)) if device.type == "cuda" else 1


def averaged_task(run: Path, device: str = "cpu") -> tuple[Task, RunFacts]:
    """Build the task of a run with its averaged weights; return it with the facts of the fit.

    Raises:
        TrainingError: The folder is not a run or contains no checkpoint.
    """
    recipe = load_run_recipe(run)
    state = require_state(run)
    task = build_task(recipe, device_named(device))
    task.load_state_dict(state["averaged"])
    return task, run_facts(run, state)


def _recipe_of_run(recipe: Recipe, options: FitOptions) -> Recipe:
    """Return the recipe, changed by the options; a resumed run keeps its own recipe."""
    if options.resume:
        started = load_run_recipe(options.run)
        if started.method != recipe.method:
            raise TrainingError(
                f"The run {options.run} fits {started.method}, not {recipe.method}; "
                "resume it with its own recipe."
            )
        recipe = started
    elif (options.run / RECIPE_FILE).exists():
        raise TrainingError(
            f"{options.run} already contains a run; add --resume to continue it, "
            "or choose another folder."
        )
    wanted = {"steps": options.steps, "compile": options.compile}
    changes = {name: value for name, value in wanted.items() if value is not None}
    return recipe.model_copy(update={"fit": recipe.fit.model_copy(update=changes)})


def _begin(run: Fit, options: FitOptions) -> None:
    options.run.mkdir(parents=True, exist_ok=True)
    if options.resume:
        run.resume()
        return
    if options.init:
        run.task.initialise(options.init)
    run.start()
    if run.ranks.leads:
        started_from = ancestors_of(options.init) if options.init else ()
        save_json(options.run / RECIPE_FILE, run.recipe.model_dump(mode="json"))
        _save_facts(run, options, started_from)


def _save_facts(run: Fit, options: FitOptions, started_from: tuple[Ancestor, ...] | None) -> None:
    manifest = load_manifest(options.data)
    facts = RunFacts(
        data=f"{options.data.resolve().name}, {manifest.summary('train')}",
        steps=run.step,
        seconds=run.clock.elapsed(),
        hardware=_hardware(run.task.device, run.ranks.size),
        started_from=started_from,
    )
    save_json(options.run / FACTS_FILE, asdict(facts))


def _hardware(device: torch.device, processes: int) -> str:
    times = f"{processes} × " if processes > 1 else ""
    if device.type == "cuda":
        return times + torch.cuda.get_device_name(device)
    return f"{times}{torch.get_num_threads()} threads of a {platform.machine()} CPU"

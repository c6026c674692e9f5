"""Fits behind the rows of a table: missing ones are made, and their cost is recorded."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from man_core import ModelError, find_model
from training.errors import RecipeError, TrainingError
from training.evaluate.denoised_folder import is_denoised_folder
from training.fit.ancestry import run_facts
from training.fit.run import Display, FitOptions, fit
from training.fit.state import RECIPE_FILE, load_run_recipe, require_state, save_json
from training.settings import load_recipe
from training.tables.file import MethodSettings, TableFile, has_values

RECORD_FILE = "table-fit.json"
"""Record of a fit that a table began: recipe, start, minutes, and whether it is finished."""


@dataclass(frozen=True)
class FitFacts:
    """Cost and origin of the fit behind a row.

    Attributes:
        row: Name of the row.
        method: Method that was fitted; empty for a model whose card describes the fit.
        data: Training set of a run; for another model the sentence of its card.
        steps: Optimiser steps; 0 if not known.
        hours: Wall-clock time of fitting; 0 if not known.
        hardware: Hardware of the fit; empty if not known.
    """

    row: str
    method: str
    data: str
    steps: int = 0
    hours: float = 0.0
    hardware: str = ""


@dataclass(frozen=True)
class FitPlan:
    """Options of the fits of a table.

    Attributes:
        runs: Folder of the runs.
        max_minutes: Minutes for all fits that are missing; None: as long as the recipes say.
        device: Device of the fits.
    """

    runs: Path
    max_minutes: float | None = None
    device: str = "auto"


def runs_of(table: TableFile, given: dict[str, str], runs: Path) -> dict[str, Path]:
    """Return the folder of the run of each row with a recipe whose model is not given.

    Raises:
        RecipeError: Different fits would have the same folder.
    """
    found = {
        method.row: runs / _folder(method)
        for method in table.methods
        if method.fit and not (method.model and has_values(table, method.model, given))
    }
    fits: dict[str, Any] = {}
    for method in table.methods:
        if method.row in found and fits.setdefault(_folder(method), method.fit) != method.fit:
            raise RecipeError(f"Two fits of the table would have the folder {_folder(method)!r}.")
    return found


def _folder(method: MethodSettings) -> str:
    named = method.fit.run if method.fit and method.fit.run else method.row
    return re.sub(r"[^\w.-]+", "-", named).strip(".-") or "row"


def fit_missing(methods: Sequence[MethodSettings], plan: FitPlan, display: Display) -> None:
    """Fit what is missing, one after the other, and resume what was interrupted.

    The minutes are shared out equally; what a fit leaves of its share goes to the next ones. An
    interrupted fit goes on with the share that it began with, which its learning rate follows.

    Args:
        methods: Rows whose model is the folder of a run, with variables filled in.
        plan: See ``FitPlan``.
        display: Display of the progress of a fit.

    Raises:
        RecipeError: A row has no training set or an unknown recipe.
        TrainingError: A fit failed or was stopped.
    """
    missing = {method.model: method for method in methods if not _finished(method)}
    left, rows = plan.max_minutes, list(missing.values())
    for number, method in enumerate(rows):
        began = time.monotonic()
        _fit(method, plan, None if left is None else left / (len(rows) - number), display)
        if left is not None:
            left = max(0.0, left - (time.monotonic() - began) / 60)


def _finished(method: MethodSettings) -> bool:
    """Return whether a run is complete; one that no table began is taken as it is."""
    run = _run(method)
    record = _record(run)
    return bool(record["finished"]) if record else (run / RECIPE_FILE).is_file()


def _run(method: MethodSettings) -> Path:
    return Path(method.model or "")


def _record(run: Path) -> dict[str, Any] | None:
    path = run / RECORD_FILE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: found[name] for name in ("recipe", "init", "minutes", "finished")}
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is damaged; delete the run {run} to fit it again.") from error


def _fit(method: MethodSettings, plan: FitPlan, minutes: float | None, display: Display) -> None:
    wanted, run = method.fit, _run(method)
    assert wanted is not None
    recipe, record = load_recipe(wanted.recipe), _record(run)
    own = {"recipe": wanted.recipe, "init": wanted.init}
    if record and {name: record[name] for name in own} != own:
        raise TrainingError(
            f"The run {run} was begun from another recipe or start than the row {method.row!r} has;"
            " name another folder with --fit."
        )
    resume = bool(record) and any((run / "checkpoints").glob("*.pt"))
    if record and resume:
        minutes = record["minutes"]
    elif record:  # it ended before its first checkpoint
        (run / RECIPE_FILE).unlink(missing_ok=True)
    record = {**own, "minutes": minutes, "finished": False}
    run.mkdir(parents=True, exist_ok=True)
    save_json(run / RECORD_FILE, record)
    init = Path(wanted.init) if wanted.init else None
    options = FitOptions(
        Path(wanted.data), run, resume, init, max_minutes=minutes, device=plan.device
    )
    if fit(recipe, options, display).stopped:
        raise TrainingError(
            f"The fit of the row {method.row!r} was stopped; the same command continues it."
        )
    save_json(run / RECORD_FILE, {**record, "finished": True})


def fit_facts(methods: Sequence[MethodSettings]) -> Iterator[FitFacts]:
    """Yield the cost of the fit behind each row that has one.

    Raises:
        TrainingError: A run is damaged, or there is no such model.
    """
    for method in methods:
        if method.model is None or is_denoised_folder(method.model) or method.ceiling:
            continue
        run = Path(method.model)
        if (run / RECIPE_FILE).is_file():
            facts = run_facts(run, require_state(run))
            name = load_run_recipe(run).method
            hours = facts.seconds / 3600
            yield FitFacts(method.row, name, facts.data, facts.steps, hours, facts.hardware)
        elif said := _trained_on(method.model):
            yield FitFacts(method.row, "", said)


def _trained_on(model: str) -> str:
    """Return the sentence of a card on its fit; empty without one."""
    cards = sorted(Path(model).glob("*.json")) if Path(model).is_dir() else []
    try:
        return find_model(str(cards[0]) if cards else model)[0].trained_on
    except ModelError as error:
        raise TrainingError(str(error)) from error

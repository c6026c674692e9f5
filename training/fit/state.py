"""Checkpoints of a run, written atomically; the last two are kept."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from training.errors import TrainingError
from training.settings import Recipe

KEPT_CHECKPOINTS = 2
RECIPE_FILE = "recipe.json"
FACTS_FILE = "facts.json"


def save_state(run: Path, step: int, state: dict[str, Any]) -> Path:
    """Write ``checkpoints/<step>.pt`` atomically and delete all but the last two.

    Args:
        run: Folder of the run.
        step: Optimiser steps done.
        state: Tensors and plain containers only.
    """
    folder = run / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{step:08d}.pt"
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    for old in _checkpoints(run)[:-KEPT_CHECKPOINTS]:
        old.unlink()
    return path


def load_state(run: Path) -> dict[str, Any] | None:
    """Load the newest readable checkpoint of a run; None if there is none at all.

    Raises:
        TrainingError: There are checkpoints, but none can be read.
    """
    paths = _checkpoints(run)
    for path in reversed(paths):
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # torn bytes make the unpickler fail in any way
            continue
        return state
    if paths:
        raise TrainingError(f"No checkpoint in {run} can be read; start the fit again.")
    return None


def require_state(run: Path) -> dict[str, Any]:
    """Load the newest readable checkpoint of a run.

    Raises:
        TrainingError: There is none.
    """
    state = load_state(run)
    if state is None:
        raise TrainingError(f"The run {run} contains no checkpoint yet.")
    return state


def averaged_state(run: Path) -> tuple[Recipe, dict[str, Any]]:
    """Load the recipe of a run and the state of its task with averaged (EMA) weights.

    Raises:
        TrainingError: The folder is not a run or contains no checkpoint.
    """
    return load_run_recipe(run), require_state(run)["averaged"]


def load_run_recipe(run: Path) -> Recipe:
    """Load the recipe that a run was started with.

    Raises:
        TrainingError: The folder is not a run.
    """
    try:
        return Recipe.model_validate_json((run / RECIPE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{run} is not a run of `man-train fit`.") from error


def load_facts(run: Path) -> dict[str, Any]:
    """Load what a run recorded of its data and hardware.

    Raises:
        TrainingError: The folder is not a run.
    """
    try:
        facts: dict[str, Any] = json.loads((run / FACTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{run} is not a run of `man-train fit`.") from error
    return facts


def save_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically."""
    save_text(path, json.dumps(content, indent=2) + "\n")


def save_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _checkpoints(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("*.pt"))

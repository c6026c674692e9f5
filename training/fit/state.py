"""Checkpoints of a run: written whole or not at all, the last two kept."""

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
    """Write ``checkpoints/<step>.pt`` atomically and drop all but the last two.

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
    """The newest readable checkpoint of a run; None where there is none at all.

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
        raise TrainingError(f"no checkpoint in {run} can be read: start the fit anew")
    return None


def averaged_state(run: Path) -> tuple[Recipe, dict[str, Any]]:
    """Recipe of a run and its task's state with the averaged (EMA) weights in place.

    Raises:
        TrainingError: The folder is no run or holds no checkpoint.
    """
    recipe = load_run_recipe(run)
    state = load_state(run)
    if state is None:
        raise TrainingError(f"the run {run} holds no checkpoint yet")
    return recipe, state["averaged"]


def load_run_recipe(run: Path) -> Recipe:
    """The recipe that a run was started with.

    Raises:
        TrainingError: The folder is no run.
    """
    try:
        return Recipe.model_validate_json((run / RECIPE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{run} is no run of `man-train fit`") from error


def load_facts(run: Path) -> dict[str, Any]:
    """What a run wrote of its data and hardware.

    Raises:
        TrainingError: The folder is no run.
    """
    try:
        facts: dict[str, Any] = json.loads((run / FACTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{run} is no run of `man-train fit`") from error
    return facts


def save_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON atomically."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def _checkpoints(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("*.pt"))

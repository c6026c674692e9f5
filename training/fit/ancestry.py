"""Origin of the weights that a fit starts from, recorded in its run for the card."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from man_core.ancestry import Ancestor, chain, read_chain
from man_core.errors import ModelError
from training.errors import TrainingError
from training.fit.state import RECIPE_FILE, load_facts, load_run_recipe, require_state
from training.fit.task import RunFacts
from training.fit.tasks.initial import card_of


def ancestors_of(source: Path) -> tuple[Ancestor, ...]:
    """Return the ancestors of a fit that starts from a source, the newest first.

    Args:
        source: Folder of a run, folder of an exported model, its card, or a registry name.

    Raises:
        TrainingError: There is no such run or model.
    """
    if (source / RECIPE_FILE).is_file():
        state = require_state(source)
        facts, weights = run_facts(source, state), _digest(state["averaged"])
        own = Ancestor(load_run_recipe(source).method, weights, facts.trained_on)
        return chain(own, facts.started_from or ())
    try:
        return card_of(source)[0].lineage()
    except ModelError as error:
        raise TrainingError(f"{source} cannot be the start of a fit. {error}") from error


def recorded_ancestors(run: Path) -> tuple[Ancestor, ...] | None:
    """Return the ancestors that a run recorded; None if an earlier version began it.

    Raises:
        TrainingError: The folder is not a run, or its record is damaged.
    """
    recorded = load_facts(run).get("started_from")
    if recorded is None:
        return None
    try:
        return read_chain(recorded)
    except (TypeError, KeyError, ValueError) as error:
        raise TrainingError(f"The record of {run} cannot be read: {error}.") from error


def run_facts(run: Path, state: Mapping[str, Any]) -> RunFacts:
    """Return the facts of a run at a checkpoint.

    Raises:
        TrainingError: The folder is not a run, or its record is damaged.
    """
    described, started_from = load_facts(run), recorded_ancestors(run)
    data, hardware = described["data"], described["hardware"]
    return RunFacts(data, state["step"], state["seconds"], hardware, started_from)


def _digest(state: Mapping[str, Any]) -> str:
    """Return the SHA-256 over the weights of a task, by name."""
    hashed = hashlib.sha256()
    for part in sorted(state):
        for name in sorted(state[part]):
            value: Tensor = state[part][name]
            hashed.update(f"{part}.{name}\n".encode())
            hashed.update(value.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()

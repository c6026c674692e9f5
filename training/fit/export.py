"""Command ``man-train export``: from a run to a model with a name of its own."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from man_core import ModelCard, list_models, namesake
from training.errors import RecipeError, TrainingError
from training.fit.ancestry import ancestors_of
from training.fit.run import averaged_task
from training.fit.state import load_run_recipe

NAME = re.compile(r"(?!.*\.json$)[a-z0-9][a-z0-9._-]{0,31}")
"""A name is part of file names and of the Series Description."""


def export(
    run: Path,
    out: Path,
    *,
    name: str | None = None,
    started_from: Path | None = None,
    device: str = "cpu",
) -> Path:
    """Write the averaged weights of a run and their card into a folder, under a name of their own.

    Args:
        run: Folder of the run.
        out: Folder of the model; created if missing.
        name: Name of the model; None: that of its method.
        started_from: What the fit started from, for a run that did not record it.
        device: Device for building the network.

    Returns:
        The card's file.

    Raises:
        RecipeError: The name cannot be one.
        TrainingError: The folder is not a run or contains no checkpoint, another model has the
            name, or the run knows what it started from.
    """
    check_name(name)
    load_run_recipe(run)  # a wrong folder is refused before another one is made
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".export-") as part:
        made = write_model(run, Path(part), started_from=started_from, device=device)
        return keep(made, out, name)


def check_name(name: str | None) -> None:
    """Check that a name can be that of a model; None is that of its method.

    Raises:
        RecipeError: It cannot.
    """
    if name is not None and not NAME.fullmatch(name):
        raise RecipeError(
            f"{name!r} cannot name a model: use up to 32 small letters, digits, dots, hyphens and"
            " underscores, beginning with a letter or digit."
        )


def keep(made: Path, out: Path, name: str | None) -> Path:
    """Move a model that was just written into a folder, under a name of its own.

    Args:
        made: Card, in a folder on the same file system.
        out: Folder of the model.
        name: Name of the model; None: that on the card.

    Returns:
        The card's file.

    Raises:
        TrainingError: Another model has the name.
    """
    card = ModelCard.load(made)
    named = replace(card, name=name or card.name)
    named = replace(named, weights_file=f"{named.name}.safetensors")
    _refuse_taken_name(named, out)
    os.replace(made.with_name(card.weights_file), out / named.weights_file)
    made.write_text(named.to_json(), encoding="utf-8")
    os.replace(made, out / f"{named.name}.json")
    return out / f"{named.name}.json"


def write_model(
    run: Path, folder: Path, *, started_from: Path | None = None, device: str = "cpu"
) -> Path:
    """Write weights and card of a run under the name of its method, for use at once.

    Returns:
        The card's file.

    Raises:
        TrainingError: See ``export``.
    """
    task, facts = averaged_task(run, device)
    if started_from is not None:
        if facts.started_from is not None:
            raise TrainingError(f"{run} recorded what it started from: omit --started-from.")
        facts = replace(facts, started_from=ancestors_of(started_from))
    return task.export(folder, facts)


def _refuse_taken_name(card: ModelCard, out: Path) -> None:
    """Raise if a shipped model, or one in the folder, has the name with other weights."""
    other = namesake(card, (*list_models(), *_cards_in(out)))
    if other is not None:
        raise TrainingError(
            f"The name {card.name!r} belongs to a model with other weights ({other.version}): give"
            f" this one a name of its own, for example --name {card.method}-{card.version[:8]}."
        )


def _cards_in(folder: Path) -> Iterator[ModelCard]:
    for path in sorted(folder.glob("*.json")):
        try:
            yield ModelCard.load(path)
        except ValueError:
            continue  # another JSON file

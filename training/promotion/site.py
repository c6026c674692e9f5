"""Folder of models of a site: the one in force, earlier ones, and the history of promotions.

::

    model.json                  card in force, which node.yaml names
    man-3fa2c41b0d9e/           promoted model with card and weights
    history.jsonl               one line per promotion or rollback, with measurements

The folder of a model is written before the card in force names it, and that card is replaced by a
rename: an interrupted promotion leaves the old model or the new one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from man_core import ModelCard
from man_core.weights import file_sha256
from training.errors import TrainingError

IN_FORCE = "model.json"
HISTORY = "history.jsonl"
CARD = "card.json"
DIGEST_LETTERS = 12


def version_of(card: ModelCard) -> str:
    """Return the folder name of a model; the same weights with other steps are another model."""
    return f"{card.name}-{card.digest[:DIGEST_LETTERS]}"


class Site:
    """Models of a site.

    Args:
        folder: Folder of the models; created at the first promotion.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def card_file(self) -> Path | None:
        """Card in force; None before the first promotion."""
        path = self.folder / IN_FORCE
        return path if path.is_file() else None

    def version(self) -> str | None:
        """Return the version of the model in force; None before the first promotion.

        Raises:
            TrainingError: Its card is damaged.
        """
        return version_of(_card(self.card_file)) if self.card_file else None

    def keep(self, card_file: Path) -> str:
        """Copy a model into its own folder unless it is there; return the name of that folder.

        Raises:
            TrainingError: The model cannot be read completely.
        """
        card = _card(card_file)
        version = version_of(card)
        place = self.folder / version
        if place.is_dir():
            return version
        part = self.folder / f".{version}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        if card.weights_file:
            _copy_weights(card_file.parent, part, card)
        name = Path(card.weights_file).name
        _write(part / CARD, replace(card, weights_file=name).to_json())
        part.replace(place)
        _sync_folder(self.folder)
        return version

    def kept(self) -> Iterator[ModelCard]:
        """Yield the cards of all kept models.

        Raises:
            TrainingError: A card is damaged.
        """
        for path in sorted(self.folder.glob(f"*/{CARD}")):
            yield _card(path)

    def put_in_force(self, version: str, line: dict[str, Any]) -> Path:
        """Put a kept model in force; record it in the history first.

        Args:
            version: See ``keep``.
            line: Further values for the history.

        Returns:
            The card in force.

        Raises:
            TrainingError: There is no such model, or its weights are damaged.
        """
        card = _card(self.folder / version / CARD)
        _check_weights(self.folder / version, card)
        weights = f"{version}/{card.weights_file}" if card.weights_file else ""
        self._note({"version": version, **line})
        part = self.folder / f"{IN_FORCE}.part"
        _write(part, replace(card, weights_file=weights).to_json())
        part.replace(self.folder / IN_FORCE)
        _sync_folder(self.folder)
        return self.folder / IN_FORCE

    def earlier(self) -> str | None:
        """Return the model before the one in force; None if the history has none."""
        version = self.version()
        found = [
            line["previous"]
            for line in self.history()
            if line["action"] == "promote" and line["version"] == version
        ]
        return found[-1] if found else None

    def history(self) -> Iterator[dict[str, Any]]:
        """Iterate over the history, oldest first; lines truncated by a crash are skipped."""
        path = self.folder / HISTORY
        for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                yield json.loads(text)
            except ValueError:
                continue

    def _note(self, line: dict[str, Any]) -> None:
        with (self.folder / HISTORY).open("a+b") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
                file.write(b"\n" if torn else b"")
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _card(path: Path) -> ModelCard:
    try:
        return ModelCard.load(path)
    except (OSError, ValueError) as error:
        raise TrainingError(f"The model card {path} cannot be read.") from error


def _copy_weights(source: Path, target: Path, card: ModelCard) -> None:
    path = target / Path(card.weights_file).name
    try:
        shutil.copyfile(source / card.weights_file, path)
    except OSError as error:
        raise TrainingError(f"The weights of {card.name} cannot be copied: {error}.") from error
    with path.open("rb") as file:
        os.fsync(file.fileno())
    _check_weights(target, card)


def _check_weights(folder: Path, card: ModelCard) -> None:
    path = folder / Path(card.weights_file).name
    if card.weights_file and not (path.is_file() and file_sha256(path) == card.weights_sha256):
        raise TrainingError(f"The weights {path} are not those of their card; remove {folder}.")


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

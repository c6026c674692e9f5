"""``models``: the models for denoising, and their cards."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from dicom_node.cli.output import AsJson, write_json, write_table
from dicom_node.errors import ModelUnavailable
from man_core import ModelCard, ModelError, find_model, list_models


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(models)


def models(
    name: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Show the complete card of this model.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the available models, or show the card of one."""
    try:
        cards = list_models() if name is None else (find_model(name)[0],)
    except ModelError as error:
        raise ModelUnavailable(str(error)) from error
    if as_json:
        write_json([_card(card) for card in cards])
    elif name is None:
        columns = ("name", "version", "method", "steps", "parameters", "licence", "summary")
        write_table(
            columns,
            [tuple(str(getattr(card, column)) for column in columns) for card in cards],
        )
    else:
        write_table(("model", cards[0].name), list(_flat(_card(cards[0])).items()))


def _card(card: ModelCard) -> dict[str, Any]:
    return {**asdict(card), "digest": card.digest}


def _flat(card: dict[str, Any]) -> dict[str, str]:
    """The entries of a card as text, without empty ones."""
    lines = {}
    for key, value in card.items():
        if isinstance(value, list | tuple):
            value = "\n".join(str(item) for item in value)
        if value not in ("", None):
            lines[key] = str(value)
    return lines

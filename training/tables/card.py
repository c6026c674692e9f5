"""Page of a model card, generated from the card and the measured tables."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from man_core import Measurement, ModelCard
from man_core.quality import SOFT_TISSUE
from training.errors import TrainingError
from training.evaluate.cases import FULL_DOSE
from training.evaluate.methods import LOW_DOSE
from training.evaluate.run import Row
from training.tables.results import TableResult, grid, load_result, sections

CARD_TABLES = ("default", "test")
"""Tables whose rows a card contains, if measured."""

CHOICE_TABLES = ("readings", "steps")
"""Tables behind the choice of reading, sampler and steps, shown if measured. The readings are
separate fits, with other weights than those of the card."""

PAGE = "README.md"

AGAIN = """```
man-train table default --set SET=… --set PAIRS=… --set REDCNN=… --out docs/results
man-train card
```

[config/tables](../../config/tables/README.md) says what the variables are and how long it takes."""


def write_card(path: Path, results: Path) -> Path:
    """Enter the measured rows of the tables into a card and write its page beside it.

    Args:
        path: Card.
        results: Folder of measured tables; without any of ``CARD_TABLES`` the measurements in the
            card are kept.

    Returns:
        The path of the page.

    Raises:
        TrainingError: The card cannot be read, or a table was measured with other weights.
    """
    card = _load_card(path)
    tables = card_tables(card, results)
    if tables:
        rows = [row for table in tables for row in table.rows]
        card = replace(card, measurements=tuple(_measurements(card, rows)))
        path.write_text(card.to_json(), encoding="utf-8")
    page = path.with_name(PAGE)
    place = Path(os.path.relpath(results, path.parent))
    page.write_text(card_page(card, tables, place, choice_tables(results)), "utf-8")
    return page


def _load_card(path: Path) -> ModelCard:
    try:
        return ModelCard.load(path)
    except (OSError, ValueError) as error:
        raise TrainingError(f"The card {path} cannot be read.") from error


def card_tables(card: ModelCard, results: Path) -> list[TableResult]:
    """Load the measured tables that a card contains.

    Raises:
        TrainingError: A table was measured with other weights than the card's.
    """
    tables = []
    for name in CARD_TABLES:
        path = results / f"{name}.json"
        if not path.is_file():
            continue
        table = load_result(path)
        if not any(_is_of(row, card) for row in table.rows):
            raise TrainingError(
                f"{path} was not measured with the weights and steps of the card {card.name!r};"
                f" measure it again with `man-train table {name}`."
            )
        tables.append(table)
    return tables


def choice_tables(results: Path) -> list[TableResult]:
    """Load the measured tables behind the choices."""
    paths = [results / f"{name}.json" for name in CHOICE_TABLES]
    return [load_result(path) for path in paths if path.is_file()]


def _is_of(row: Row, card: ModelCard) -> bool:
    same_steps = (row.sampler, row.steps) == (card.sampler, card.steps)
    return row.weights_sha256 == card.weights_sha256 and same_steps


def _measurements(card: ModelCard, rows: Sequence[Row]) -> list[Measurement]:
    """Select the measurements of a card; full dose as input has no low-dose reference."""
    kept = [row for row in rows if row.row == LOW_DOSE or _is_of(row, card)]
    return [measurement(row) for row in kept if row.dose < FULL_DOSE]


def add_to_card(path: Path, rows: Sequence[Row]) -> None:
    """Add the rows of the model and of the low dose to its card.

    Rows of the same split, dose, window and name are replaced.

    Raises:
        TrainingError: The card cannot be read, or no row was measured with its weights.
    """
    card = _load_card(path)
    wanted = (card.weights_sha256, card.sampler, card.steps)
    own = [r for r in rows if (r.weights_sha256, r.sampler, r.steps) == wanted]
    if not own:
        raise TrainingError(
            f"No row was measured with the weights, sampler and steps of the card {path}."
        )
    beside = [r for r in rows if r.row == LOW_DOSE and math.isfinite(r.psnr_db)]
    fresh = {_kind(m): m for m in map(measurement, [*beside, *own])}
    kept = [m for m in card.measurements if _kind(m) not in fresh]
    changed = replace(card, measurements=(*kept, *fresh.values()))
    path.write_text(changed.to_json(), encoding="utf-8")


def measurement(row: Row) -> Measurement:
    """Convert a row to a measurement of a card."""
    kind = "real" if row.real else "simulated"
    return Measurement(
        split=f"{row.split} ({kind})",
        dose=row.dose,
        window_hu=row.window_hu,
        row=row.row,
        psnr_db=round(row.psnr_db, 2),
        ssim=round(row.ssim, 4),
        lpips=round(row.lpips, 4),
        slices=row.slices,
    )


def _kind(row: Measurement) -> tuple[object, ...]:
    return row.split, row.dose, row.window_hu, row.row


def card_page(
    card: ModelCard,
    tables: Sequence[TableResult],
    results: Path,
    choices: Sequence[TableResult] = (),
) -> str:
    """Return the page as Markdown.

    Args:
        card: Card of the model.
        tables: Tables measured with its weights.
        results: Folder of the tables, relative to the card.
        choices: Tables behind its choices.
    """
    measured = [part for table in tables for part in _measured(table, results)]
    return (
        "\n\n".join(
            [
                f"# Model card of `{card.name}`",
                f"Made by `man-train card` from [{card.name}.json]({card.name}.json) and the"
                " measured tables: change those, not this page."
                f" `dicom-node models {card.name}` prints the card.",
                f"**What it is.** {card.summary} {_facts(card)}",
                f"**What it is for.** {card.intended_use}",
                f"**What it was fitted on.** {card.trained_on}",
                "## What was measured",
                *(measured or [_own_measurements(card)]),
                *_chosen(choices, results),
                "## Limits",
                "\n".join(f"- {limit}" for limit in card.limits),
                "## Again",
                AGAIN,
                "## Licence and credits",
                f"{card.licence}.",
                "\n".join(f"- {credit}" for credit in card.credits),
                *_origin(card),
            ]
        )
        + "\n"
    )


def _facts(card: ModelCard) -> str:
    steps = f"{card.sampler} in {card.steps} step{'s' if card.steps > 1 else ''}"
    low, high = card.hu_range.low, card.hu_range.high
    return (
        f"{card.parameters:,} fitted values, sampled by {steps}; sees {low:g} to {high:g} HU."
        f" Weights: `{card.weights_file}`, sha256 `{card.weights_sha256}`."
    )


def _origin(card: ModelCard) -> list[str]:
    """Return a section on the weights that the fit started from, if there are any."""
    lines = [
        [
            f"`{one.name}`",
            f"`{(one.weights_sha256 or one.digest)[:12]}`",
            one.trained_on or "not stated",
            one.licence or "not stated",
            "; ".join(one.credits) or "not stated",
        ]
        for one in card.started_from
    ]
    if not lines:
        return []
    head = ("model or run", "weights", "fitted on", "licence", "credits")
    said = "The fit started from the first of these weights, each of them from the next."
    return ["## Where the weights come from", said, grid(head, lines)]


def _measured(table: TableResult, results: Path) -> list[str]:
    """Return a table in the soft-tissue window, with a link to the other windows."""
    page = results / f"{table.name}.md"
    where = f"Every window: [{table.table.title}]({page.as_posix()})."
    return [f"### {table.table.title}", *sections(table, "####", [SOFT_TISSUE]), where]


def _chosen(choices: Sequence[TableResult], results: Path) -> list[str]:
    """Return a section for the tables behind the choices, if there are any."""
    parts = [part for table in choices for part in _measured(table, results)]
    return ["## How it was chosen", *parts] if parts else []


def _own_measurements(card: ModelCard) -> str:
    head = ("split", "dose", "window (HU)", "row", "slices", "PSNR (dB)", "SSIM", "LPIPS")
    return grid(head, [_line(row) for row in card.measurements])


def _line(row: Measurement) -> list[str]:
    window = f"[{row.window_hu[0]:g}, {row.window_hu[1]:g}]"
    numbers = [f"{row.psnr_db:.2f}", f"{row.ssim:.3f}", f"{row.lpips:.3f}"]
    return [row.split, f"{row.dose:g}", window, row.row, str(row.slices), *numbers]

"""Measured rows as a table for people, JSON for programs and figures of a model card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from man_core import Measurement, ModelCard
from man_core.card import NO_SAMPLER
from man_core.quality import ABDOMEN_EXAM, CHEST_EXAM, HEAD_EXAM, LUNG, SOFT_TISSUE, Window
from training.errors import RecipeError, TrainingError
from training.evaluate.methods import LOW_DOSE
from training.evaluate.run import Row

WINDOWS: dict[str, Window] = {
    "soft": SOFT_TISSUE,
    "lung": LUNG,
    "abdomen-exam": ABDOMEN_EXAM,
    "chest-exam": CHEST_EXAM,
    "head-exam": HEAD_EXAM,
}
"""Windows by the name that the command line takes."""

COLUMNS = ("row", "sampler", "steps", "weights", "PSNR dB", "SSIM", "LPIPS", "s/slice")


def window_of(text: str) -> Window:
    """A window by name or as ``LOW,HIGH`` in HU.

    Raises:
        RecipeError: It is neither.
    """
    if text in WINDOWS:
        return WINDOWS[text]
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not low < high:
        raise RecipeError(f"unknown window {text!r}: use {', '.join(WINDOWS)}, or LOW,HIGH in HU")
    return low, high


def tables_of(rows: Sequence[Row]) -> list[Table]:
    """A table for each split, dose and window."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.split, row.dose, row.real, row.window_hu), []).append(row)
    return [_table(group) for group in groups.values()]


def _table(rows: list[Row]) -> Table:
    first = rows[0]
    low, high = first.window_hu
    title = (
        f"{first.split}, {'real' if first.real else 'simulated'} dose {first.dose:g}, "
        f"window {low:g} to {high:g} HU, {first.slices} slices; mean HU off by tissue"
    )
    tissues = list(first.bias_hu)
    table = Table(*COLUMNS, *tissues, title=title, box=SIMPLE_HEAD, title_justify="left")
    for row in rows:
        table.add_row(
            row.row,
            "" if row.sampler == NO_SAMPLER else row.sampler,
            str(row.steps or ""),
            row.weights_sha256[:8],
            f"{row.psnr_db:.2f}",
            f"{row.ssim:.3f}",
            f"{row.lpips:.3f}",
            f"{row.seconds_per_slice:.2f}" if row.seconds_per_slice else "",
            *(f"{row.bias_hu[name]:+.1f}" for name in tissues),
        )
    return table


def json_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows for a program; null stands for what was not measured."""
    return [
        {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(row).items()
        }
        for row in rows
    ]


def note_on_card(path: Path, rows: Sequence[Row]) -> None:
    """Add the rows of a card's model, with the low-dose rows beside them, to the card.

    Rows of the same split, dose, window and name are replaced.

    Raises:
        TrainingError: The card cannot be read, or no row was measured with its weights.
    """
    try:
        card = ModelCard.load(path)
    except (OSError, ValueError) as error:
        raise TrainingError(f"the card {path} cannot be read") from error
    wanted = (card.weights_sha256, card.sampler, card.steps)
    own = [r for r in rows if (r.weights_sha256, r.sampler, r.steps) == wanted]
    if not own:
        raise TrainingError(
            f"no row was measured with the weights, sampler and steps of the card {path}"
        )
    beside = [r for r in rows if r.row == LOW_DOSE and math.isfinite(r.psnr_db)]
    fresh = {_kind(m): m for m in map(measurement, [*beside, *own])}
    kept = [m for m in card.measurements if _kind(m) not in fresh]
    changed = replace(card, measurements=(*kept, *fresh.values()))
    path.write_text(changed.to_json(), encoding="utf-8")


def measurement(row: Row) -> Measurement:
    """A row as a card keeps it."""
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

"""Drawing of fidelity against likeness: PSNR over LPIPS, rows as points and a dial as a curve.

A method can have a high PSNR or a low LPIPS; beyond some point only one at the cost of the other
(Blau and Michaeli 2018, The Perception-Distortion Tradeoff, CVPR). A dial moves a model along a
curve; a method above and left of it is better than the model at any position.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from man_core.quality import SOFT_TISSUE
from training.curve.settings import Dial
from training.errors import TrainingError
from training.evaluate.methods import LOW_DOSE
from training.evaluate.run import Row
from training.tables.figures import saved, subplots
from training.tables.results import TableResult, heading


@dataclass(frozen=True)
class DialPoint:
    """A measured position of a dial, read from a curve.

    Attributes:
        model: Name of the model.
        dial: Dial.
        value: Its position.
        row: Image quality.
    """

    model: str
    dial: Dial
    value: float
    row: Row


def load_points(path: Path) -> list[DialPoint]:
    """Read the points of a measured curve, without those of the low dose.

    Raises:
        TrainingError: The file is not one that ``man-train curve`` wrote.
    """
    known = {field.name for field in fields(Row)}
    try:
        points = [
            DialPoint(
                str(one["model"]),
                Dial(one["dial"]),
                float(one["value"]),
                Row.from_dict({name: value for name, value in one.items() if name in known}),
            )
            for one in json.loads(path.read_text(encoding="utf-8"))["points"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is not a curve that `man-train curve` measured.") from error
    return [point for point in points if point.dial != Dial.NONE]


def tradeoff_figure(result: TableResult, points: Sequence[DialPoint], path: Path) -> Path:
    """Draw a panel for each dose of a table in the soft-tissue window.

    Args:
        result: Measured table; rows without LPIPS are left out.
        points: Positions of dials, drawn where split, dose and number of slices are those of rows.
        path: File to write, PNG.

    Raises:
        TrainingError: No row has an LPIPS.
    """
    groups = [
        shown
        for rows in result.groups()
        if (shown := [row for row in rows if row.window_hu == SOFT_TISSUE and _finite(row)])
    ]
    if not groups:
        raise TrainingError(f"The table {result.name} has no LPIPS in the soft-tissue window.")
    figure, axes = subplots(len(groups))
    for axis, rows in zip([axes] if len(groups) == 1 else axes, groups, strict=True):
        for number, row in enumerate(rows):
            marker = "s" if row.row == LOW_DOSE else "o"
            axis.plot(row.lpips, row.psnr_db, marker, color=f"C{number}", label=row.row)
        _draw_dials(axis, rows[0], points)
        axis.set(xlabel="LPIPS", ylabel="PSNR (dB)")
        lines = "\n".join(heading(rows[0]).split(", ", 2))
        axis.set_title(f"{lines}, {rows[0].slices} slices", fontsize=7)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=6)
    figure.suptitle(result.table.title, fontsize=9)
    return saved(figure, path)


def _finite(row: Row) -> bool:
    return math.isfinite(row.psnr_db) and math.isfinite(row.lpips)


def _draw_dials(axis: Any, like: Row, points: Sequence[DialPoint]) -> None:
    """Draw a line for each dial of a model on the same cases as a row."""
    lines: dict[tuple[str, str, Dial], list[DialPoint]] = {}
    for point in points:
        if _cases(point.row) == _cases(like) and _finite(point.row):
            key = (point.model, point.row.weights_sha256[:8], point.dial)
            lines.setdefault(key, []).append(point)
    for number, ((model, weights, dial), line) in enumerate(lines.items()):
        line.sort(key=lambda point: point.value)
        across, up = [one.row.lpips for one in line], [one.row.psnr_db for one in line]
        label = f"{model} {weights}, {dial}"
        axis.plot(across, up, "-x", color="black", alpha=1 / (1 + number), lw=1, label=label)
        for one in line:
            axis.annotate(f"{one.value:g}", (one.row.lpips, one.row.psnr_db), fontsize=5)


def _cases(row: Row) -> tuple[object, ...]:
    return row.split, row.dose, row.real, row.window_hu, row.slices

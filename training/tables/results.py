"""Measured tables as files: JSON for programs and Markdown for people, from the same rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from man_core.quality import TISSUES, Window
from training.errors import TrainingError
from training.evaluate.run import Row
from training.evaluate.windows import WINDOW_NAMES
from training.tables.file import Printed, PrintedRow, TableFile
from training.tables.statements import (
    NUMBERS,
    left_out_statement,
    order_statements,
    subject_statement,
    tolerance_statement,
)

FORMAT = 1
DIGITS = 5

COLUMNS = ("row", "steps", "weights", "slices (patients)", "PSNR (dB)", "SSIM", "LPIPS", "s/slice")


@dataclass(frozen=True)
class TableResult:
    """A measured table.

    Attributes:
        name: Name of its file.
        table: Definition, without the paths of the machine.
        rows: Measured rows.
        without: Rows that were left out.
    """

    name: str
    table: TableFile
    rows: tuple[Row, ...]
    without: tuple[str, ...] = ()

    def groups(self) -> list[tuple[Row, ...]]:
        """Group the rows by dose and window, in order of measurement."""
        groups: dict[tuple[object, ...], list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row.split, row.real, row.dose, row.window_hu), []).append(row)
        return [tuple(group) for group in groups.values()]


def save_result(result: TableResult, folder: Path) -> list[Path]:
    """Write ``<name>.json`` and ``<name>.md`` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "format": FORMAT,
        "name": result.name,
        "table": result.table.model_dump(mode="json", exclude_defaults=True),
        "without": result.without,
        "rows": [_rounded(row.to_dict()) for row in result.rows],
    }
    paths = [folder / f"{result.name}.json", folder / f"{result.name}.md"]
    paths[0].write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    paths[1].write_text(markdown(load_result(paths[0])), encoding="utf-8")
    return paths


def load_result(path: Path) -> TableResult:
    """Read a measured table.

    Raises:
        TrainingError: The file is not a measured table.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        table = TableFile.model_validate(facts["table"])
        rows = tuple(Row.from_dict(row) for row in facts["rows"])
        return TableResult(facts["name"], table, rows, tuple(facts["without"]))
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise TrainingError(f"{path} is not a table that `man-train table` measured.") from error


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return value


def markdown(result: TableResult) -> str:
    """Return the page of a table as Markdown."""
    made = f"Made by `man-train table {result.name}`; the same rows for programs: "
    parts = [f"# {result.table.title}", f"{made}[{result.name}.json]({result.name}.json)."]
    parts += list(result.table.remarks)
    if result.without:
        parts.append(f"Left out: {', '.join(result.without)}.")
    parts += sections(result)
    machines = sorted({row.machine for row in result.rows if row.machine})
    parts.append(f"Times were measured on {' and on '.join(machines)}.")
    return "\n\n".join(parts) + "\n"


def sections(
    result: TableResult, level: str = "##", windows: Sequence[Window] | None = None
) -> list[str]:
    """Return heading, table and statements of each dose and window; None: all windows."""
    table = result.table
    parts = []
    for rows in result.groups():
        if windows is not None and rows[0].window_hu not in windows:
            continue
        parts += [f"{level} {heading(rows[0])}", _grid(rows), left_out_statement(rows)]
        if table.printed:
            parts += [_beside(rows, table.printed)]
            parts += [_listed(order_statements(rows, table.printed))]
        if table.subject:
            parts += [subject_statement(rows, table.subject) or ""]
        if table.tolerance:
            parts += [tolerance_statement(rows, table.tolerance) or ""]
    return [part for part in parts if part]


def heading(row: Row) -> str:
    """Describe split, dose and window of a row."""
    low, high = row.window_hu
    name = WINDOW_NAMES.get(row.window_hu, "")
    kind = "real" if row.real else "simulated"
    return f"{row.split}, {kind} dose {row.dose:g}, {name} window [{low:g}, {high:g}] HU".replace(
        "  ", " "
    )


def _grid(rows: Sequence[Row]) -> str:
    tissues = [name for name in TISSUES if any(name in row.bias_hu for row in rows)]
    head = (*COLUMNS, *(f"{name} (HU)" for name in tissues))
    return grid(head, [[*_cells(row), *_bias(row, tissues)] for row in rows])


def grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


def _cells(row: Row) -> Iterator[str]:
    yield row.row
    yield (
        f"{row.sampler} {row.steps}".strip() if row.steps and row.sampler else str(row.steps or "")
    )
    if row.files_sha256:
        yield f"files `{row.files_sha256[:8]}`"
    else:
        yield f"`{row.weights_sha256[:8]}`" if row.weights_sha256 else ""
    yield f"{row.slices} ({row.patients})"
    yield from (number(number.ours(row)) for number in NUMBERS[:3])
    yield f"{row.seconds_per_slice:.2f}" if row.seconds_per_slice else ""


def _bias(row: Row, tissues: Sequence[str]) -> Iterator[str]:
    for name in tissues:
        yield f"{row.bias_hu[name]:+.1f}" if name in row.bias_hu else ""


def _beside(rows: Sequence[Row], printed: Printed) -> str:
    """Return our numbers beside the printed ones, in the order of the paper; others follow."""
    ours = {row.row: row for row in rows}
    theirs = {row.row: row for row in printed.rows}
    names = [*theirs, *(name for name in ours if name not in theirs)]
    head = ["row"]
    for number in NUMBERS[:3]:
        head += [number.name, "printed"]
    head += ["a slice", "printed, whole set"]
    lines = [[name, *_pairs(ours.get(name), theirs.get(name))] for name in names]
    return f"Beside {printed.source}:\n\n{grid(head, lines)}"


def _pairs(ours: Row | None, theirs: PrintedRow | None) -> Iterator[str]:
    for number in NUMBERS:
        yield number(number.ours(ours) if ours else None)
        yield number(number.printed(theirs) if theirs else None)


def _listed(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)

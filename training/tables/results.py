"""Measured tables: JSON for programs and Markdown for people, from the same rows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from man_core.quality import SOFT_TISSUE, TISSUES, Window
from training.errors import TrainingError
from training.evaluate.run import SCORES, Row
from training.evaluate.windows import WINDOW_NAMES
from training.tables.file import Printed, PrintedRow, TableFile
from training.tables.fits import FitFacts
from training.tables.over_patients import METHOD, Estimate, Estimates
from training.tables.statements import (
    NUMBERS,
    Number,
    left_out_statement,
    order_statements,
    subject_statement,
    tolerance_statement,
)

FORMAT = 1
FIT_COLUMNS = ("row", "method", "fitted on", "steps", "hours", "hardware")

OVER_PATIENTS = "over_patients"
"""Key of the estimates in a row of the JSON file."""

DIGITS = 5
MIN_P = 0.001
"""Smaller p are shown as below this."""


COLUMNS = ("row", "steps", "weights", "slices (patients)", "PSNR (dB)", "SSIM", "LPIPS", "s/slice")


@dataclass(frozen=True)
class TableResult:
    """A measured table.

    Attributes:
        name: Name of its file.
        table: Definition, without the paths of the machine.
        rows: Measured rows.
        without: Rows that were left out.
        estimates: Uncertainty of each row; empty if an earlier version measured the table.
        fits: Fits behind the rows; empty likewise.
    """

    name: str
    table: TableFile
    rows: tuple[Row, ...]
    without: tuple[str, ...] = ()
    estimates: tuple[Estimates, ...] = ()
    fits: tuple[FitFacts, ...] = ()

    def estimates_of(self, row: Row) -> Estimates:
        """Return the uncertainty of a row of this table; empty if it is not known."""
        pairs = zip(self.rows, self.estimates, strict=False)
        return next((found for own, found in pairs if own is row), {})

    def groups(self) -> list[tuple[Row, ...]]:
        """Group the rows by dose and window, in order of measurement."""
        groups: dict[tuple[object, ...], list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row.split, row.real, row.dose, row.window_hu), []).append(row)
        return [tuple(group) for group in groups.values()]


def json_text(result: TableResult) -> str:
    """Return a table as JSON."""
    facts = {
        "format": FORMAT,
        "name": result.name,
        "table": result.table.model_dump(mode="json", exclude_defaults=True),
        "without": result.without,
        "fits": [_rounded(asdict(one)) for one in result.fits],
        "rows": [_rounded(_row_facts(result, row)) for row in result.rows],
    }
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"


def _row_facts(result: TableResult, row: Row) -> dict[str, Any]:
    estimates = result.estimates_of(row)
    found = {name: estimate.to_dict() for name, estimate in estimates.items()}
    return row.to_dict() | ({OVER_PATIENTS: found} if found else {})


def load_result(path: Path) -> TableResult:
    """Read a measured table.

    Raises:
        TrainingError: The file is not a measured table.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        table = TableFile.model_validate(facts["table"])
        estimates = tuple(_estimates(row.pop(OVER_PATIENTS, {})) for row in facts["rows"])
        rows = tuple(Row.from_dict(row) for row in facts["rows"])
        known = estimates if any(estimates) else ()
        fits = tuple(FitFacts(**one) for one in facts.get("fits", ()))
        return TableResult(facts["name"], table, rows, tuple(facts["without"]), known, fits)
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise TrainingError(f"{path} is not a table that `man-train table` measured.") from error


def _estimates(found: dict[str, Any]) -> Estimates:
    return {name: Estimate.from_dict(fields) for name, fields in found.items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return value


def markdown(result: TableResult) -> str:
    """Return the page of a table as Markdown."""
    files = f"[{result.name}.json]({result.name}.json)"
    if result.estimates:
        files += f", [.csv]({result.name}.csv) and [.tex]({result.name}.tex) with all intervals"
    made = f"Made by `man-train table {result.name}`; the same rows for programs: {files}."
    parts = [f"# {result.table.title}", made]
    parts += list(result.table.remarks)
    if result.without:
        parts.append(f"Left out: {', '.join(result.without)}.")
    parts += sections(result)
    if result.estimates:
        parts.append(METHOD)
    if result.fits:
        parts += ["## Fits behind the rows", grid(FIT_COLUMNS, [*map(_fit_cells, result.fits)])]
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
        parts += [_over_patients(result, rows)]
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


def _over_patients(result: TableResult, rows: Sequence[Row]) -> str:
    """Return intervals and tests in the soft-tissue window; empty for one patient or none known."""
    if rows[0].window_hu != SOFT_TISSUE or rows[0].patients < 2 or not result.estimates:
        return ""
    subject = result.table.subject
    tested = f" and p against {subject.row}" if subject else ""
    head = ["row"]
    for number in NUMBERS[:3]:
        head += [number.name, *(["p"] if subject else [])]
    lines = [[row.row, *_uncertain(result.estimates_of(row), tested=bool(subject))] for row in rows]
    return f"95 % intervals over patients{tested}:\n\n{grid(head, lines)}"


def _uncertain(estimates: Estimates, *, tested: bool) -> Iterator[str]:
    for name, number in zip(SCORES, NUMBERS[:3], strict=True):
        found = estimates.get(name, Estimate())
        yield interval(found, number, "{} to {}")
        if tested:
            yield p_text(found.p)


def interval(found: Estimate, number: Number, form: str) -> str:
    """Format the interval of a number; empty if there is none."""
    return form.format(number(found.low), number(found.high)) if math.isfinite(found.low) else ""


def p_text(p: float) -> str:
    """Format a p; empty if there is none."""
    if not math.isfinite(p):
        return ""
    return f"{p:.3f}" if p >= MIN_P else f"<{MIN_P:g}"


def grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


def _cells(row: Row) -> Iterator[str]:
    yield row.row
    yield sampling(row)
    if row.files_sha256:
        yield f"files `{row.files_sha256[:8]}`"
    else:
        yield f"`{row.weights_sha256[:8]}`" if row.weights_sha256 else ""
    yield f"{row.slices} ({row.patients})"
    yield from (number(number.ours(row)) for number in NUMBERS[:3])
    yield f"{row.seconds_per_slice:.2f}" if row.seconds_per_slice else ""


def sampling(row: Row) -> str:
    """Describe sampler and steps of a row; empty without sampling."""
    return f"{row.sampler} {row.steps}".strip() if row.steps else ""


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


def _fit_cells(fit: FitFacts) -> list[str]:
    numbers = [f"{fit.steps}", f"{fit.hours:.2f}"] if fit.steps else ["", ""]
    return [fit.row, fit.method, fit.data, *numbers, fit.hardware]


def _listed(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)

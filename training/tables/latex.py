"""Measured table as LaTeX: one ``table`` for each dose and window, for the package booktabs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from training.evaluate.run import SCORES, Row
from training.tables.file import PrintedRow
from training.tables.over_patients import METHOD, Estimate
from training.tables.results import TableResult, heading, interval, p_text, sampling
from training.tables.statements import NUMBERS, left_out_statement

SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "ⁿ": r"\textsuperscript{n}", **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}  # fmt: skip


def latex(result: TableResult) -> str:
    """Return a table as LaTeX."""
    parts = [
        f"% Made by `man-train table {result.name}` from {result.name}.json."
        " Needs \\usepackage{booktabs}."
    ]
    for number, rows in enumerate(result.groups(), 1):
        parts.append(_table(result, rows, number))
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Return text for LaTeX, with its special characters escaped."""
    return "".join(SPECIAL.get(mark, mark) for mark in text)


def _table(result: TableResult, rows: Sequence[Row], number: int) -> str:
    head = [*_head(result)]
    lines = [_line([*_cells(result, row)]) for row in rows]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small",
            f"\\caption{{{escaped(_caption(result, rows))}}}",
            f"\\label{{tab:{result.name}-{number}}}",
            f"\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            _line(head),
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _caption(result: TableResult, rows: Sequence[Row]) -> str:
    first, subject = rows[0], result.table.subject
    left_out = left_out_statement(rows)
    patients = "1 patient" if first.patients == 1 else f"{first.patients} patients"
    parts = [
        f"{result.table.title}: {heading(first)}, {first.slices} slices of {patients}.",
        *([left_out[0].upper() + left_out[1:]] if left_out else []),
    ]
    if result.estimates and first.patients > 1:
        parts.append(f"In brackets the interval; p against {subject.row}." if subject else "")
        parts.append(METHOD)
    if result.table.printed:
        parts.append(f"Printed: {result.table.printed.source}.")
    if hardware := sorted({fit.hardware for fit in result.fits if fit.hardware}):
        parts.append(f"Hours of the fits are of {' and of '.join(hardware)}.")
    return " ".join(part for part in parts if part)


def _head(result: TableResult) -> Iterator[str]:
    yield from ("Method", "Steps")
    for number in NUMBERS[:3]:
        yield "PSNR (dB)" if number.name == "PSNR" else number.name
        if result.table.subject:
            yield "$p$"
        if result.table.printed:
            yield "printed"
    yield "s/slice"
    if result.fits:
        yield "fit (h)"


def _cells(result: TableResult, row: Row) -> Iterator[str]:
    theirs = _printed(result, row)
    estimates = result.estimates_of(row)
    yield escaped(row.row)
    yield escaped(sampling(row))
    for name, number in zip(SCORES, NUMBERS[:3], strict=True):
        found = estimates.get(name, Estimate())
        yield number(number.ours(row)) + interval(found, number, " [{}, {}]")
        if result.table.subject:
            yield p_text(found.p).replace("<", "$<$")
        if result.table.printed:
            yield number(number.printed(theirs)) if theirs else "–"
    yield f"{row.seconds_per_slice:.2f}" if row.seconds_per_slice else ""
    if result.fits:
        hours = next((fit.hours for fit in result.fits if fit.row == row.row), 0.0)
        yield f"{hours:.2f}" if hours else ""


def _printed(result: TableResult, row: Row) -> PrintedRow | None:
    printed = result.table.printed
    return next((one for one in printed.rows if one.row == row.row), None) if printed else None


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"

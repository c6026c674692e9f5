"""Measurement of the rows of a table, one case at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from man_core.quality import Window
from training.errors import RecipeError, TrainingError
from training.evaluate.cases import Case, Wanted, cases
from training.evaluate.coverage import Coverage
from training.evaluate.exams import EXAMS, by_exam
from training.evaluate.methods import CLASSICAL, Method, ceiling_method, model_method, untouched
from training.evaluate.run import NOTHING, CaseRow, Row, averaged
from training.evaluate.windows import window_of
from training.tables.case_rows import CaseRowFile
from training.tables.file import EXAM, MethodSettings, TableFile
from training.tables.over_patients import Estimates, estimates_of


@dataclass(frozen=True)
class TableOptions:
    """Options of a table on the command line.

    Attributes:
        rows: File of the case rows.
        resume: Whether to continue with the rows in it.
        final: Whether the table of the test split is intended.
        device: Device of the models.
        partial: Whether slices that a folder of results lacks are left out of all rows.
    """

    rows: Path
    resume: bool = False
    final: bool = False
    device: str = "auto"
    partial: bool = False


@dataclass(frozen=True)
class Tabulated:
    """Measured rows of a table.

    Attributes:
        rows: Rows.
        estimates: Uncertainty of each.
    """

    rows: tuple[Row, ...]
    estimates: tuple[Estimates, ...]


def tabulate(
    table: TableFile,
    options: TableOptions,
    on_case: Callable[[int, int | None], None] | None = None,
) -> Tabulated:
    """Measure the rows of a table.

    Args:
        table: Table with its variables filled in.
        options: See ``TableOptions``.
        on_case: Callback with (cases done, None).

    Raises:
        RecipeError: The table names an unknown row, or is final and ``final`` is False.
        TrainingError: There is nothing to measure, or a model failed.
    """
    if table.final and not options.final:
        raise RecipeError(
            "This table is measured once, at the end, since a test that guides choices is no"
            " longer a test; add --final if that is intended now."
        )
    windows = {text: window_of(text) for text in table.windows if text != EXAM}
    methods = [untouched(), *(_method(wanted, options.device) for wanted in table.methods)]
    measured = CaseRowFile(options.rows, resume=options.resume)
    coverage = Coverage(methods, partial=options.partial)
    rows: list[CaseRow] = []
    for done, case in enumerate(_by_exam(table, coverage.of(_cases(table))), 1):
        shown = [*windows.values(), *_exam_windows(table, case)]
        for method in _applicable(methods, case):
            rows.extend(measured.rows(method, case, shown))
        if on_case:
            on_case(done, None)
    _check_rows(methods, rows)
    return Tabulated(
        tuple(coverage.stated(averaged(rows))), tuple(estimates_of(rows, table.subject))
    )


def _applicable(methods: Sequence[Method], case: Case) -> list[Method]:
    """Return the methods of a case: nobody else has denoised what was simulated here."""
    return [method for method in methods if method.results is None or case.origins]


def _check_rows(methods: Sequence[Method], rows: Sequence[CaseRow]) -> None:
    if not rows:
        raise TrainingError(NOTHING)
    measured = {case_row.row.row for case_row in rows}
    for method in methods:
        if method.name not in measured:
            raise TrainingError(
                f"The row {method.name!r} is a folder of denoised images, and the table has no real"
                " pair of DICOM folders to measure it on: add one, or leave the row out with"
                " --without."
            )


def _exam_windows(table: TableFile, case: Case) -> list[Window]:
    return [EXAMS[case.exam]] if EXAM in table.windows else []


def _cases(table: TableFile) -> Iterator[Case]:
    for source in table.cases:
        wanted = Wanted(table.split, source.doses, source.slices)
        full = Path(source.full) if source.full else None
        for case in cases(Path(source.set or source.low or ""), full, wanted):
            yield case if source.set else _named(case, source.name, table.split)


def _by_exam(table: TableFile, found: Iterable[Case]) -> Iterator[Case]:
    for case in found:
        yield from by_exam(case) if EXAM in table.windows else (case,)


def _named(case: Case, name: str, split: str) -> Case:
    return replace(case, split=split, name=f"{name}/{case.name}", patient=f"{name}/{case.patient}")


def _method(wanted: MethodSettings, device: str) -> Method:
    if wanted.model is None:
        if wanted.row not in CLASSICAL:
            known = ", ".join(CLASSICAL)
            raise RecipeError(f"The row {wanted.row!r} needs a model, or must be one of {known}.")
        return CLASSICAL[wanted.row]
    if wanted.ceiling:
        return ceiling_method(wanted.model, device=device, row=wanted.row)
    return model_method(
        wanted.model, device=device, steps=wanted.steps, sampler=wanted.sampler, row=wanted.row
    )

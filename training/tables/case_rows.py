"""Rows of single cases in a file that grows: an interrupted table goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from man_core.quality import Window
from training.errors import TrainingError
from training.evaluate.cases import Case
from training.evaluate.methods import Method
from training.evaluate.run import CaseRow, Row, rows_of_case

Key = tuple[str, str, str, str, int, Window]


class CaseRowFile:
    """A JSONL file of case rows. What it holds is not measured again.

    Args:
        path: The file; made when absent.
        resume: Take the rows that the file holds.

    Raises:
        TrainingError: The file is there already and ``resume`` was not said, or it is damaged.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        if path.exists() and not resume:
            raise TrainingError(
                f"{path} holds rows already: add --resume to go on with them, or name another --out"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._rows: dict[Key, CaseRow] = {}
        lines = _whole_lines(path)
        for line in lines:
            self._take(line)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def rows(self, method: Method, case: Case, windows: Sequence[Window]) -> list[CaseRow]:
        """The rows of a method on a case, measured where the file lacks them.

        Raises:
            TrainingError: The model failed.
        """
        of = fingerprint(case)
        keys = {window: _key(of, method, window) for window in windows}
        lacking = [window for window in windows if keys[window] not in self._rows]
        with self._path.open("a", encoding="utf-8") as file:
            for row in rows_of_case(method, case, lacking):
                file.write(json.dumps(_entry(of, row)) + "\n")
                self._rows[keys[row.row.window_hu]] = row
        return [self._rows[keys[window]] for window in windows]

    def _take(self, line: str) -> None:
        try:
            found = json.loads(line)
            row = Row.from_dict(found["row"])
            case_row = CaseRow(found["patient"], found["series"], row)
            name = (row.row, row.weights_sha256, row.sampler, row.steps)
            self._rows[(found["case"], *name, row.window_hu)] = case_row
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{self._path} is damaged: begin the table anew") from error


def fingerprint(case: Case) -> str:
    """What a case is, by its values: the same images are the same case wherever they lie."""
    digest = hashlib.sha256(f"{case.split} {case.name} {case.dose} {case.real}".encode())
    digest.update(case.low.hu.tobytes())
    digest.update(case.full.tobytes())
    return digest.hexdigest()[:16]


def _entry(of: str, row: CaseRow) -> dict[str, Any]:
    return {"case": of, "patient": row.patient, "series": row.series, "row": row.row.to_dict()}


def _key(of: str, method: Method, window: Window) -> Key:
    return (of, method.name, method.weights_sha256, method.sampler, method.steps, window)


def _whole_lines(path: Path) -> list[str]:
    """The lines of the file; one that a kill cut short is left out."""
    if not path.exists():
        return []
    return [
        line.rstrip("\n")
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True)
        if line.endswith("\n")
    ]

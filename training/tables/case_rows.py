"""File of measured case rows, from which an interrupted table is resumed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from man_core.quality import Scores, Window
from training.errors import TrainingError
from training.evaluate.cases import Case
from training.evaluate.methods import Method
from training.evaluate.run import SCORES, CaseRow, Row, rows_of_case

Key = tuple[str, str, str, str, int, Window]


class CaseRowFile:
    """JSONL file of case rows; rows in the file are not measured again.

    Args:
        path: File; created if missing.
        resume: Whether to use the rows in the file.

    Raises:
        TrainingError: The file exists and ``resume`` is False, or it is damaged.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        if path.exists() and not resume:
            raise TrainingError(
                f"{path} already contains rows; add --resume to continue, or name another --out."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._rows: dict[Key, CaseRow] = {}
        lines = _whole_lines(path)
        for line in lines:
            self._take(line)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def rows(self, method: Method, case: Case, windows: Sequence[Window]) -> list[CaseRow]:
        """Return the rows of a method on a case, measured if the file lacks them.

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
            slices = tuple(_scores(one) for one in found.get("slices", ()))
            case_row = CaseRow(found["patient"], found["series"], row, slices)
            name = (row.row, row.source_sha256, row.sampler, row.steps)
            self._rows[(found["case"], *name, row.window_hu)] = case_row
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{self._path} is damaged; measure the table again.") from error


def fingerprint(case: Case) -> str:
    """Identify a case by its values: the same images are the same case in any folder."""
    digest = hashlib.sha256(f"{case.split} {case.name} {case.dose} {case.real}".encode())
    digest.update(case.low.hu.tobytes())
    digest.update(case.full.tobytes())
    return digest.hexdigest()[:16]


def _entry(of: str, row: CaseRow) -> dict[str, Any]:
    each = [scores.to_dict() for scores in row.slices]
    names = {"case": of, "patient": row.patient, "series": row.series}
    return {**names, "row": row.row.to_dict(), "slices": each}


def _scores(found: dict[str, float | None]) -> Scores:
    values = [found[name] for name in SCORES]
    return Scores(*(math.nan if value is None else value for value in values))


def _key(of: str, method: Method, window: Window) -> Key:
    return (of, method.name, method.source_sha256, method.sampler, method.steps, window)


def _whole_lines(path: Path) -> list[str]:
    """Return the complete lines of the file, without a truncated last one."""
    if not path.exists():
        return []
    return [
        line.rstrip("\n")
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True)
        if line.endswith("\n")
    ]

"""Measured table as CSV: one line a row, dose and window, with everything a number depends on."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from man_core.quality import TISSUES
from training.evaluate.run import SCORES, Row
from training.evaluate.windows import WINDOW_NAMES
from training.tables.over_patients import Estimate, Estimates
from training.tables.results import TableResult


def csv_text(result: TableResult) -> str:
    """Return a table as CSV (RFC 4180, but with line feeds); an empty field was not measured."""
    lines = [_line(result, row) for row in result.rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _line(result: TableResult, row: Row) -> dict[str, Any]:
    fields = {
        "table": result.name,
        "split": row.split,
        "dose": row.dose,
        "low_dose": "real" if row.real else "simulated",
        "window": WINDOW_NAMES.get(row.window_hu, ""),
        "window_low_hu": row.window_hu[0],
        "window_high_hu": row.window_hu[1],
        "row": row.row,
        "sampler": row.sampler,
        "steps": row.steps or "",
        "weights_sha256": row.weights_sha256,
        "files_sha256": row.files_sha256,
        "slices": row.slices,
        "patients": row.patients,
        "left_out": row.left_out,
        **_scores(row, result.estimates_of(row)),
        **{f"bias_{name.replace(' ', '_')}_hu": row.bias_hu.get(name, "") for name in TISSUES},
        "seconds_per_slice": row.seconds_per_slice or "",
        "machine": row.machine,
        **_fit(result, row),
    }
    return {name: _shown(value) for name, value in fields.items()}


def _scores(row: Row, estimates: Estimates) -> dict[str, float]:
    fields = {}
    for name in SCORES:
        found = estimates.get(name, Estimate())
        fields[name] = getattr(row, name)
        fields[f"{name}_interval_low"], fields[f"{name}_interval_high"] = found.low, found.high
        fields[f"{name}_minus_subject"], fields[f"{name}_p"] = found.difference, found.p
    return fields


def _fit(result: TableResult, row: Row) -> dict[str, object]:
    found = next((one for one in result.fits if one.row == row.row), None)
    return {
        "fit_steps": (found and found.steps) or "",
        "fit_hours": (found and found.hours) or "",
        "fit_hardware": found.hardware if found else "",
        "fitted_on": found.data if found else "",
    }


def _shown(value: object) -> object:
    return "" if isinstance(value, float) and not math.isfinite(value) else value

"""Files of a measured table: JSON and CSV for programs, Markdown and LaTeX for people."""

from __future__ import annotations

from pathlib import Path

from training.tables.latex import latex
from training.tables.results import TableResult, json_text, load_result, markdown
from training.tables.spreadsheet import csv_text


def save_result(result: TableResult, folder: Path) -> list[Path]:
    """Write ``<name>.json``, ``.md``, ``.csv`` and ``.tex`` into a folder, from the same rows."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{result.name}.json"
    data.write_text(json_text(result), encoding="utf-8")
    saved = load_result(data)
    paths = [data]
    for suffix, text in ((".md", markdown), (".csv", csv_text), (".tex", latex)):
        paths.append(folder / f"{result.name}{suffix}")
        paths[-1].write_text(text(saved), encoding="utf-8", newline="\n")
    return paths

"""PSNR over LPIPS: rows of a table with the curve of a dial on the same cases."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from man_core.quality import SOFT_TISSUE
from training.curve.tradeoff import load_points, tradeoff_figure
from training.errors import TrainingError
from training.evaluate.run import Row
from training.tables.file import CasesSettings, TableFile
from training.tables.results import TableResult

TABLE = TableFile(title="T", split="validation", cases=(CasesSettings(set="x", doses=(0.25,)),))
LOW = Row("validation", 0.25, False, SOFT_TISSUE, "low dose", "", 0, 20, 0.5, 0.2, {}, 2, 0.0)
OWN = replace(LOW, row="m", weights_sha256="abc", psnr_db=26.0, lpips=0.1)


def curve(folder: Path) -> Path:
    points = [{"model": "low dose", "dial": "untouched", "value": 0.0, **LOW.to_dict()}]
    for gain in (2.0, 4.0):
        row = replace(OWN, psnr_db=20 + gain, lpips=0.3 / gain)
        points.append({"model": "m", "dial": "gain", "value": gain, "water": 1, **row.to_dict()})
    path = folder / "curve.json"
    path.write_text(json.dumps({"points": points}), encoding="utf-8")
    return path


def test_the_dial_is_read_from_the_curve_and_drawn(tmp_path: Path) -> None:
    points = load_points(curve(tmp_path))
    assert [(p.model, p.value, p.row.psnr_db) for p in points] == [("m", 2, 22), ("m", 4, 24)]
    result = TableResult("t", TABLE, (LOW, OWN, replace(OWN, dose=0.1)))
    with_dial = tradeoff_figure(result, points, tmp_path / "with.png").read_bytes()
    without = tradeoff_figure(result, [], tmp_path / "without.png").read_bytes()
    elsewhere = [replace(point, row=replace(point.row, slices=3)) for point in points]
    other = tradeoff_figure(result, elsewhere, tmp_path / "other.png").read_bytes()
    assert with_dial != without
    assert other == without, "a curve of other slices is not drawn beside these rows"


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}", encoding="utf-8")
    with pytest.raises(TrainingError, match="not a curve"):
        load_points(tmp_path / "x.json")
    with pytest.raises(TrainingError, match="no LPIPS"):
        tradeoff_figure(TableResult("t", TABLE, (replace(OWN, lpips=math.nan),)), [], tmp_path)

"""Published tables: one command, resumable, and nothing of the machine in what is published."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support.commands import man_train
from support.ct_factory import make_series

from man_core import Condition, Volume
from man_core.physics.phantom.series import phantom_series
from man_core.quality import ABDOMEN_EXAM, SOFT_TISSUE
from training.errors import TrainingError
from training.evaluate.cases import Case
from training.evaluate.exams import by_exam, exam_of
from training.evaluate.run import Row
from training.tables.file import Printed, PrintedRow, Subject, Tolerance, load_table
from training.tables.latex import escaped, latex
from training.tables.results import TableResult, load_result, markdown
from training.tables.spreadsheet import csv_text
from training.tables.statements import order_statements, subject_statement, tolerance_statement

SIZE = 64
TABLES = Path(__file__).parents[4] / "config" / "tables"
TIMES = ("seconds_per_slice", "machine")

TABLE: dict[str, Any] = {
    "title": "A tiny table",
    "split": "validation",
    "variables": {"PAIRS": {"about": "pairs"}, "MODEL": {"about": "model", "default": "identity"}},
    "cases": [
        {"name": name, "low": "${PAIRS}/low", "full": "${PAIRS}/full", "doses": [0.25], "slices": n}
        for name, n in (("first", 2), ("second", 3))
    ],
    "windows": ["soft", "exam"],
    "methods": [{"row": "best Gaussian"}, {"row": "nothing", "model": "${MODEL}"}],
    "subject": {"row": "nothing", "regression": "best Gaussian"},
    "printed": {
        "source": "a paper",
        "rows": [
            {"row": "best Gaussian", "psnr_db": 30.0, "ssim": 0.5, "lpips": 0.5, "seconds": 60},
            {"row": "nothing", "psnr_db": 31.0, "ssim": 0.4, "lpips": 0.4, "seconds": 1},
        ],
    },
    "remarks": ["A remark."],
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    make_series(folder / "low", 3, SIZE, study="a", series_number=2, noise_hu=40, seed=1)
    make_series(folder / "full", 3, SIZE, study="a", series_number=1, noise_hu=10)
    return folder


@pytest.fixture(scope="module")
def measured(pairs: Path) -> Path:
    """The folder of the tiny table, measured without interruption."""
    table = pairs / "tiny.yaml"
    table.write_text(yaml.safe_dump(TABLE), encoding="utf-8")
    assert man_train("table", table, "--set", f"PAIRS={pairs}", "--out", pairs / "out") == 0
    return pairs / "out"


def rows_in(folder: Path) -> list[dict[str, Any]]:
    rows = json.loads((folder / "tiny.json").read_text(encoding="utf-8"))["rows"]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def test_each_group_of_rows_begins_with_the_untouched_low_dose(measured: Path) -> None:
    rows = rows_in(measured)
    assert [row["row"] for row in rows] == ["low dose"] * 2 + ["best Gaussian"] * 2 + [
        "nothing"
    ] * 2
    assert {tuple(row["window_hu"]) for row in rows} == {SOFT_TISSUE, ABDOMEN_EXAM}
    assert all((row["slices"], row["patients"], row["real"]) == (5, 2, True) for row in rows)
    assert rows[0]["psnr_db"] == rows[4]["psnr_db"] < rows[2]["psnr_db"]


def test_the_page_says_everything_that_a_number_depends_on(measured: Path) -> None:
    page = (measured / "tiny.md").read_text(encoding="utf-8")
    assert "## validation, real dose 0.25, soft tissue window [-160, 240] HU" in page
    assert "## validation, real dose 0.25, abdomen exam window [-150, 249] HU" in page
    first = [line for line in page.splitlines() if line.startswith("| ")][2]
    assert first.startswith("| low dose |")
    assert "Beside a paper:" in page
    assert "PSNR: the order differs. In print, best Gaussian lies below nothing (30.00" in page
    assert "A remark." in page
    assert markdown(load_result(measured / "tiny.json")) == page


def test_what_is_published_names_no_place_of_the_machine(measured: Path, pairs: Path) -> None:
    files = [measured / f"tiny.{suffix}" for suffix in ("json", "md", "csv", "tex")]
    texts = [file.read_text(encoding="utf-8") for file in files]
    assert not any(str(pairs) in text for text in texts)


def test_the_values_of_every_slice_are_kept(measured: Path) -> None:
    for line in (measured / "tiny.cases.jsonl").read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        psnr = [one["psnr_db"] for one in case["slices"]]
        assert len(psnr) == case["row"]["slices"]
        assert np.mean(psnr) == pytest.approx(case["row"]["psnr_db"])


def test_every_file_has_the_interval_over_patients_and_the_test(measured: Path) -> None:
    rows = rows_in(measured)
    low, subject = rows[0]["over_patients"]["psnr_db"], rows[4]["over_patients"]["psnr_db"]
    assert low["interval"][0] <= rows[0]["psnr_db"] <= low["interval"][1]
    assert (low["difference"], low["p"]) == (0.0, 1.0), "the subject is the untouched image"
    assert (subject["difference"], subject["p"]) == (None, None)
    assert rows[2]["over_patients"]["psnr_db"]["p"] == 0.5, "both of two patients: 2 of 4"

    with (measured / "tiny.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines] == [row["row"] for row in rows]
    assert (lines[0]["split"], lines[0]["window"], lines[0]["patients"]) == (
        "validation", "soft tissue", "2"
    )  # fmt: skip
    assert float(lines[2]["psnr_db"]) == rows[2]["psnr_db"]
    assert float(lines[0]["psnr_db_interval_low"]) == low["interval"][0]
    assert (lines[2]["psnr_db_p"], lines[4]["psnr_db_p"]) == ("0.5", "")

    page = (measured / "tiny.md").read_text(encoding="utf-8")
    assert page.count("95 % intervals over patients and p against nothing:") == 1, "soft tissue"


def test_the_latex_is_balanced_and_its_captions_say_window_and_split(measured: Path) -> None:
    text = (measured / "tiny.tex").read_text(encoding="utf-8")
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    assert sorted(begun) == sorted(ended) == ["table", "table", "tabular", "tabular"]
    assert "validation, real dose 0.25, soft tissue window [-160, 240] HU, 5 slices of 2" in text
    assert "Printed: a paper." in text
    widths = {line.count("&") for line in text.splitlines() if line.endswith(r"\\")}
    assert len(widths) == 1
    assert escaped("5 % & a_b") == r"5 \% \& a\_b"


def test_a_table_of_an_earlier_version_has_no_intervals_and_says_none() -> None:
    published = TABLES.parents[1] / "docs" / "results"
    for path in published.glob("*.json"):
        table = load_result(path)
        assert markdown(table)
        assert len(csv_text(table).splitlines()) == 1 + len(table.rows)
        assert latex(table).count(r"\begin{table}") == len(table.groups())
    old = TableResult("old", load_table("doses"), (row("low dose", 20, 0.5, 0.2),))
    assert "interval" not in markdown(old) + latex(old)


def test_a_resumed_table_gives_the_same_result(measured: Path, pairs: Path, tmp_path: Path) -> None:
    lines = (measured / "tiny.cases.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    begun = tmp_path / "tiny.cases.jsonl"
    begun.write_text("".join(lines[:3]) + lines[3][:40], encoding="utf-8")
    arguments = ("table", pairs / "tiny.yaml", "--set", f"PAIRS={pairs}", "--out", tmp_path)
    assert man_train(*arguments) == 1
    assert man_train(*arguments, "--resume") == 0
    assert begun.read_text(encoding="utf-8").splitlines(keepends=True)[:3] == lines[:3]
    assert rows_in(tmp_path) == rows_in(measured)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({}, [], "needs PAIRS (pairs); give --set PAIRS"),
        ({}, ["--set", "PAIRS"], "write NAME=VALUE"),
        ({}, ["--set", "OTHER=x"], "no variable 'OTHER'"),
        ({}, ["--without", "other"], "no row 'other'"),
        ({"rows": []}, [], "rows: Extra inputs"),
        ({"split": "fitting"}, [], "split must be one of"),
        ({"split": "test"}, [], "must be final"),
        ({"cases": [{"name": "x", "doses": [0.25]}]}, [], "give either set, or name, low and full"),
        ({"methods": [{"row": "a"}, {"row": "a"}]}, [], "a name of its own"),
        ({"methods": [{"row": "magic"}]}, ["--set", "PAIRS=x"], "'magic' needs a model"),
        ({"windows": ["wide"]}, ["--set", "PAIRS=x"], "Unknown window 'wide'"),
        ({"split": "test", "final": True}, ["--set", "PAIRS=x"], "measured once, at the end"),
    ],
)
def test_a_wrong_table_is_said_in_one_sentence(
    change: dict[str, Any],
    options: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = tmp_path / "wrong.yaml"
    table.write_text(yaml.safe_dump({**TABLE, **change}), encoding="utf-8")
    assert man_train("table", table, *options, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("line", ["{}", "no JSON", '{"case": "x", "row": {"psnr_db": 1}}'])
def test_damaged_rows_are_said(
    line: str, pairs: Path, tmp_path: Path, measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.cases.jsonl").write_text(f"{line}\n", encoding="utf-8")
    arguments = ("--set", f"PAIRS={pairs}", "--out", tmp_path, "--resume")
    assert man_train("table", pairs / "tiny.yaml", *arguments) == 1
    assert "tiny.cases.jsonl is damaged; measure the table again" in capsys.readouterr().err
    with pytest.raises(TrainingError, match="not a table that"):
        load_result(tmp_path / "tiny.cases.jsonl")


def test_a_variable_may_come_from_the_environment(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAN_TRAIN_PAIRS", str(pairs))
    table = tmp_path / "tiny.yaml"
    one = {**TABLE, "cases": TABLE["cases"][:1], "windows": ["soft"]}
    table.write_text(yaml.safe_dump(one), encoding="utf-8")
    assert man_train("table", table, "--without", "best Gaussian", "--out", tmp_path) == 0
    assert [row["row"] for row in rows_in(tmp_path)] == ["low dose", "nothing"]
    assert "Left out: best Gaussian." in (tmp_path / "tiny.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(TABLES.glob("*.yaml")), ids=lambda path: str(path.stem))
def test_every_table_of_the_repository_can_be_read(path: Path) -> None:
    table = load_table(path.stem)
    assert table.methods
    assert table.remarks
    assert (table.split == "test") == table.final


def row(name: str, psnr_db: float, ssim: float, lpips: float, seconds: float = 1.0) -> Row:
    return Row(
        split="validation", dose=0.25, real=False, window_hu=SOFT_TISSUE, row=name,
        weights_sha256="" if name in ("low dose", "blur") else name.split()[0], steps=1,
        psnr_db=psnr_db, ssim=ssim, lpips=lpips, bias_hu={}, slices=1, seconds_per_slice=seconds,
    )  # fmt: skip


def test_a_swapped_order_is_said_for_each_number() -> None:
    printed = [PrintedRow(row="a", psnr_db=30, ssim=0.7, lpips=0.2, seconds=5),
               PrintedRow(row="b", psnr_db=29, ssim=0.6, lpips=0.3)]  # fmt: skip
    ours = [row("b", 31, 0.5, 0.4), row("a", 30, 0.6, 0.3)]
    psnr, ssim, lpips, time = order_statements(ours, Printed(source="p", rows=tuple(printed)))
    assert "In print, a lies above b (30.00 and 29.00), with us it is the other way" in psnr
    assert all("come in the order" in sentence for sentence in (ssim, lpips, time))


def test_a_subject_is_held_against_the_best_other_weights() -> None:
    rows = [row("low dose", 20, 0.5, 0.2), row("red", 25, 0.7, 0.3), row("man", 24.8, 0.71, 0.1),
            row("man 30", 30, 0.9, 0.01)]  # fmt: skip
    said = subject_statement(rows, Subject(row="man", regression="red"))
    assert said is not None
    assert "LPIPS 0.50 of the best other row's, low dose (at most 0.75: met)" in said
    assert "SSIM +0.010 to the best other row's, red (not less: met)" in said
    assert "PSNR -0.20 dB to red's (at least -0.3 dB: met)" in said
    assert subject_statement([replace(rows[2], dose=1.0)], Subject(row="man")) is None


def test_the_quickest_row_that_loses_little_is_of_the_same_weights() -> None:
    rows = [row("blur", 30, 0.9, 0.1, 0.1), row("m 1", 29, 0.9, 0.1, 1.0),
            row("m 2", 29.95, 0.9, 0.1, 2.0), row("m 30", 30, 0.9, 0.1, 30.0)]  # fmt: skip
    said = tolerance_statement(rows, Tolerance(row="m 30"))
    assert said is not None
    assert ": m 2 (2.00 s a slice" in said


def test_the_exam_is_what_a_slice_shows() -> None:
    chest = phantom_series("chest", slices=1, size=128).hu[0]
    abdomen = phantom_series("abdomen", slices=1, size=128).hu[0]
    assert exam_of(chest, "ABDOMEN") == "chest"
    assert exam_of(abdomen, "CHEST") == "abdomen"
    assert exam_of(abdomen, "Head") == "head"
    mixed = Volume(np.stack([abdomen, chest, abdomen]), (1.0, 1.0, 1.0), np.eye(4))
    case = Case("validation", "x", "p", 0.25, False, mixed, mixed.hu, Condition())
    parts = {part.exam: part for part in by_exam(case)}
    assert {exam: len(part.full) for exam, part in parts.items()} == {"chest": 1, "abdomen": 2}
    assert np.array_equal(parts["chest"].low.hu[0], chest)

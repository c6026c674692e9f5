"""The model card's page and the figures are made from the measured tables."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from man_core import ModelCard
from man_core.ancestry import Ancestor
from man_core.quality import SOFT_TISSUE
from training.cli import main
from training.errors import RecipeError, TrainingError
from training.evaluate.methods import untouched
from training.evaluate.run import Row
from training.tables.card import card_page, card_tables, choice_tables, write_card
from training.tables.figures import (
    cost_figure,
    dose_figure,
    panel_figure,
    phantom_case,
    time_figure,
)
from training.tables.file import CasesSettings, TableFile
from training.tables.published_figures import draw_pair
from training.tables.results import TableResult
from training.tables.save import save_result

REPOSITORY = Path(__file__).parents[4]
PRETRAINED = REPOSITORY / "man_core" / "pretrained"
RESULTS = REPOSITORY / "docs" / "results"
PNG = b"\x89PNG"

CARD = ModelCard("m", "1", "man", "A model.", weights_sha256="abc", steps=4, limits=("It ends.",))
TABLE = TableFile(
    title="Default", split="validation", cases=(CasesSettings(set="x", doses=(0.25,)),)
)
LOW = Row("validation", 0.25, False, SOFT_TISSUE, "low dose", "", 0, 20, 0.5, 0.2, {}, 2, 0.0)
OWN = replace(LOW, row="m", weights_sha256="abc", sampler="ddim", steps=4, psnr_db=26.0)


def result(*rows: Row, name: str = "default") -> TableResult:
    return TableResult(name, TABLE, rows)


def test_the_shipped_page_is_what_the_command_makes() -> None:
    card = ModelCard.load(PRETRAINED / "man.json")
    tables, choices = card_tables(card, RESULTS), choice_tables(RESULTS)
    made = card_page(card, tables, Path("../../docs/results"), choices)
    page = (PRETRAINED / "README.md").read_text(encoding="utf-8")
    assert page == made, "run man-train card in the root of the repository"


def test_the_page_says_where_the_weights_come_from() -> None:
    assert "come from" not in card_page(CARD, [], Path("results"))
    first = Ancestor("first", "d" * 64, "a set", "CC-BY-4.0", ("A clinic", "B clinic"), "e" * 64)
    run = Ancestor("man-autoencoder", "f" * 64, "a set; 10 steps")
    page = card_page(replace(CARD, started_from=(run, first)), [], Path("results"))
    assert "| `first` | `eeeeeeeeeeee` | a set | CC-BY-4.0 | A clinic; B clinic |" in page
    assert "| `man-autoencoder` | `ffffffffffff` | a set; 10 steps | not stated |" in page


def test_measured_rows_reach_card_and_page(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(CARD.to_json(), encoding="utf-8")
    full_dose_in = replace(OWN, dose=1.0, psnr_db=float("inf"))
    save_result(result(LOW, OWN, replace(OWN, row="m 30", steps=30), full_dose_in), tmp_path)
    page = write_card(path, tmp_path).read_text(encoding="utf-8")
    card = ModelCard.load(path)
    assert [(m.row, m.psnr_db) for m in card.measurements] == [("low dose", 20.0), ("m", 26.0)]
    assert card.digest == CARD.digest
    assert "| m | ddim 4 | `abc` | 2 (1) | 26.00 | 0.500 | 0.200 |" in page
    assert "- It ends." in page
    assert write_card(path, tmp_path).read_text(encoding="utf-8") == page


def test_the_page_shows_what_its_readings_were_chosen_by(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(CARD.to_json(), encoding="utf-8")
    assert "How it was chosen" not in write_card(path, tmp_path).read_text(encoding="utf-8")
    other = replace(OWN, row="v predicted", weights_sha256="def", psnr_db=24.5)
    save_result(result(LOW, other, name="readings"), tmp_path)
    page = write_card(path, tmp_path).read_text(encoding="utf-8")
    assert "## How it was chosen" in page
    assert "| v predicted | ddim 4 | `def` | 2 (1) | 24.50 | 0.500 | 0.200 |" in page
    assert ModelCard.load(path).measurements == ()


def test_a_table_of_other_weights_is_refused(tmp_path: Path) -> None:
    save_result(result(LOW, replace(OWN, weights_sha256="def")), tmp_path)
    with pytest.raises(TrainingError, match="not measured with the weights"):
        card_tables(CARD, tmp_path)


def test_without_tables_the_page_shows_the_cards_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.json").write_text(CARD.to_json(), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["man-train", "card", f"{tmp_path}/m.json"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "| split | dose |" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_the_shipped_card_is_not_written_without_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = tmp_path / "pretrained"
    shipped.mkdir()
    (shipped / "man.json").write_text(CARD.to_json(), encoding="utf-8")
    monkeypatch.setattr("man_core.registry.pretrained_folder", lambda: shipped)
    monkeypatch.setattr(sys, "argv", ["man-train", "card"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "in the root of the repository" in capsys.readouterr().err
    assert [path.name for path in shipped.iterdir()] == ["man.json"]


def test_curves_and_panels_are_drawn(tmp_path: Path) -> None:
    rows = [replace(OWN, dose=dose, seconds_per_slice=s) for dose, s in ((0.1, 1.0), (0.5, 2.0))]
    case = phantom_case("abdomen", size=64)
    drawn = [
        cost_figure(result(LOW, *rows), tmp_path / "cost.png"),
        dose_figure(result(LOW, *rows), tmp_path / "dose.png"),
        time_figure(result(LOW, *rows), tmp_path / "time.png"),
        panel_figure(case, untouched(), SOFT_TISSUE, tmp_path / "panel.png"),
    ]
    assert all(path.read_bytes().startswith(PNG) for path in drawn)


def test_no_patient_is_drawn_into_a_repository(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    with pytest.raises(RecipeError, match="must not contain patient images"):
        draw_pair(tmp_path, tmp_path, 0.25, [untouched()], SOFT_TISSUE, tmp_path / "figures")

from __future__ import annotations

from pathlib import Path

import pytest
from support.ct_factory import make_series

from training.data import prepare as preparing
from training.data.manifest import load_manifest
from training.data.splits import split_by_file, split_by_hash, split_by_name
from training.errors import RecipeError, TrainingError


def test_hash_gives_the_same_split_whatever_else_is_there() -> None:
    split_of = split_by_hash()
    names = [f"patient {number}" for number in range(2000)]
    found = [split_of(name) for name in names]
    assert found == [split_by_hash()(name) for name in names]
    assert 0.76 < found.count("train") / len(found) < 0.84
    assert 0.07 < found.count("test") / len(found) < 0.13
    assert found != [split_by_hash(seed=1)(name) for name in names]


def test_file_names_patients_and_leaves_others_out(tmp_path: Path) -> None:
    path = tmp_path / "split.yaml"
    path.write_text("patients: {A: train, B: test}\n", encoding="utf-8")
    split_of = split_by_file(path)
    assert [split_of(name) for name in "ABC"] == ["train", "test", None]


@pytest.mark.parametrize(
    "text",
    ["patients: {A: fitting}", "patients: {A: train, A: test}", "people: {}", "patients: [", "12"],
)
def test_a_wrong_split_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "split.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError):
        split_by_file(path)


def test_the_shipped_split_is_readable() -> None:
    path = Path(__file__).parents[4] / "config" / "splits" / "development.yaml"
    assert split_by_file(path)("TRAIN-001") == "train"


def test_all_series_of_a_patient_share_a_split_and_cannot_leave_it(tmp_path: Path) -> None:
    for number in range(2):
        make_series(tmp_path / f"in-{number}", 1, patient_id="ONE", study=str(number))
    root = tmp_path / "set"
    preparing.prepare([tmp_path / "in-0"], root, split_by_name("train"))
    for again in ("in-0", "in-1"):
        with pytest.raises(TrainingError, match="one split only"):
            preparing.prepare([tmp_path / again], root, split_by_name("validation"))
    preparing.prepare([tmp_path / "in-1"], root, split_by_name("train"))
    entries = load_manifest(root).series
    assert len({entry.patient for entry in entries}) == 1
    assert {entry.split for entry in entries} == {"train"}


def test_preparing_twice_adds_nothing(tmp_path: Path) -> None:
    make_series(tmp_path / "in", 2)
    first = preparing.prepare([tmp_path / "in"], tmp_path / "set", split_by_name("train"))
    second = preparing.prepare([tmp_path / "in"], tmp_path / "set", split_by_name("train"))
    assert (first.added, first.slices) == (1, 2)
    assert (second.added, len(second.skipped)) == (0, 1)


def test_real_partners_are_matched_by_place(tmp_path: Path) -> None:
    make_series(tmp_path / "full", 3, study="a", series_number=1)
    make_series(tmp_path / "low", 3, study="a", series_number=2, noise_hu=40, seed=1)
    root = tmp_path / "set"
    preparing.prepare([tmp_path / "full"], root, split_by_name("train"))
    preparing.prepare([tmp_path / "low"], root, split_by_name("train"), low_dose=0.25)
    full, low = load_manifest(root).series
    assert (low.full_series, low.dose, low.split) == (full.series, 0.25, "train")
    assert [entry.full_slice for entry in low.slices] == [0, 1, 2]

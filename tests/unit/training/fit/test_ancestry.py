"""A card says which weights its fit started from, and no two models carry one name."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from man_core import ModelCard
from training.cli import main
from training.errors import RecipeError, TrainingError
from training.fit.export import export
from training.fit.run import FitOptions, fit
from training.settings import load_recipe


def fitted(data: Path, run: Path, steps: int = 2, **options: object) -> Path:
    wanted = FitOptions(data, run, device="cpu", steps=steps, **options)  # type: ignore[arg-type]
    fit(load_recipe("redcnn-tiny"), wanted)
    return run


@pytest.fixture
def first(small_set: Path, tmp_path: Path) -> Path:
    """A model with a licence and a credit of its own."""
    path = export(fitted(small_set, tmp_path / "first-run"), tmp_path / "first", name="first")
    fields = json.loads(path.read_text("utf-8")) | {"licence": "CC-BY-4.0", "credits": ["A clinic"]}
    path.write_text(json.dumps(fields), encoding="utf-8")
    return path


def forget(run: Path) -> None:
    """Leave the record of a run as an earlier version wrote it."""
    path = run / "facts.json"
    facts = json.loads(path.read_text("utf-8"))
    del facts["started_from"]
    path.write_text(json.dumps(facts), encoding="utf-8")


def test_a_chain_of_fits_is_in_the_card_with_data_licence_and_credits(
    first: Path, small_set: Path, tmp_path: Path
) -> None:
    second_run = fitted(small_set, tmp_path / "second-run", init=first)
    fitted(small_set, second_run, resume=True, steps=3)
    second = export(second_run, tmp_path / "second", name="second")
    third_run = fitted(small_set, tmp_path / "third-run", init=second)
    third = ModelCard.load(export(third_run, tmp_path / "third", name="third"))
    parent, grandparent = third.started_from
    assert (parent.name, parent.digest) == ("second", ModelCard.load(second).digest)
    assert (grandparent.name, grandparent.licence) == ("first", "CC-BY-4.0")
    assert grandparent.credits == ("A clinic",)
    assert grandparent.trained_on.startswith("set, ")
    assert grandparent.weights_sha256 == ModelCard.load(first).weights_sha256


def test_a_run_that_was_not_exported_is_an_ancestor_too(
    first: Path, small_set: Path, tmp_path: Path
) -> None:
    second_run = fitted(small_set, tmp_path / "second-run", init=first)
    third_run = fitted(small_set, tmp_path / "third-run", init=second_run)
    parent, grandparent = ModelCard.load(
        export(third_run, tmp_path / "third", name="third")
    ).started_from
    assert (parent.name, len(parent.digest), parent.weights_sha256) == ("redcnn", 64, "")
    assert "2 steps" in parent.trained_on
    assert grandparent.name == "first"


def test_a_run_of_an_earlier_version_says_that_its_origin_is_unknown_or_is_told_it(
    first: Path, small_set: Path, tmp_path: Path
) -> None:
    run = fitted(small_set, tmp_path / "run", init=first)
    with pytest.raises(TrainingError, match="recorded what it started from"):
        export(run, tmp_path / "a", name="a", started_from=first)
    forget(run)
    fitted(small_set, run, resume=True, steps=3)
    unknown = ModelCard.load(export(run, tmp_path / "b", name="b"))
    assert unknown.started_from == ()
    assert any("not recorded" in limit for limit in unknown.limits)
    known = ModelCard.load(export(run, tmp_path / "c", name="c", started_from=first))
    assert [one.name for one in known.started_from] == ["first"]
    assert not any("not recorded" in limit for limit in known.limits)


def test_a_name_that_another_model_has_is_refused_and_nothing_is_written(
    first: Path, small_set: Path, tmp_path: Path
) -> None:
    other = fitted(small_set, tmp_path / "other-run", steps=3)
    before = {path.name: path.read_bytes() for path in first.parent.iterdir()}
    with pytest.raises(TrainingError, match="'first' belongs to a model with other weights"):
        export(other, first.parent, name="first")
    with pytest.raises(TrainingError, match=r"'man' .*--name redcnn-"):
        export(other, first.parent, name="man")
    assert {path.name: path.read_bytes() for path in first.parent.iterdir()} == before
    assert export(tmp_path / "first-run", first.parent, name="first") == first


@pytest.mark.parametrize("name", ["", "Man", "a/b", "..", "a b", "x" * 33, "a.json", "-a"])
def test_what_cannot_be_a_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot name a model"):
        export(tmp_path / "run", tmp_path / "out", name=name)


def test_the_command_names_the_model(
    first: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["export", str(tmp_path / "first-run"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["man-train", *words, "--name", "own", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    card = ModelCard.load(Path(json.loads(capsys.readouterr().out)["card"]))
    assert (card.name, card.weights_file) == ("own", "own.safetensors")
    assert card.weights_sha256 == ModelCard.load(first).weights_sha256

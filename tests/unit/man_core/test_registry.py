"""A name leads to one model: two with different weights are not told apart by it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from man_core import ModelCard, ModelError, find_model, list_models, namesake


def write(path: Path, name: str, sha256: str, steps: int = 1) -> ModelCard:
    card = ModelCard(name, sha256[:4], "man", "A model.", weights_sha256=sha256, steps=steps)
    path.write_text(card.to_json(), encoding="utf-8")
    return card


def test_two_models_of_one_name_are_refused_by_name_and_found_by_path(tmp_path: Path) -> None:
    write(tmp_path / "a.json", "site", "aaaa")
    second = write(tmp_path / "b.json", "site", "bbbb")
    write(tmp_path / "c.json", "other", "cccc")
    with pytest.raises(ModelError, match=r"are named 'site' .*by the path of its card"):
        find_model("site", tmp_path)
    assert find_model(str(tmp_path / "b.json"))[0] == second
    assert find_model("other", tmp_path)[0].weights_sha256 == "cccc"
    assert [card.name for card in list_models(tmp_path)].count("site") == 2


def test_a_model_of_the_site_does_not_replace_the_shipped_one(tmp_path: Path) -> None:
    write(tmp_path / "man.json", "man", "aaaa")
    with pytest.raises(ModelError, match=r"are named 'man'"):
        find_model("man", tmp_path)
    assert find_model("man")[0].weights_sha256 != "aaaa"


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_a_card_that_is_unclear_about_its_purpose_is_refused(tmp_path: Path, value: object) -> None:
    card = write(tmp_path / "a.json", "site", "aaaa")
    fields = json.loads(card.to_json())
    assert fields["for_comparison"] is False
    with pytest.raises(ValueError, match="for_comparison must be true or false"):
        ModelCard.from_json(json.dumps(fields | {"for_comparison": value}))
    used = ModelCard.from_json(json.dumps(fields | {"for_comparison": True}))
    assert (used.for_comparison, used.digest) == (True, card.digest)


def test_the_same_weights_may_have_several_cards(tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", "site", "aaaa")
    second = write(tmp_path / "b.json", "site", "aaaa", steps=4)
    assert namesake(first, [first, second]) is None
    assert find_model("site", tmp_path)[0] == second

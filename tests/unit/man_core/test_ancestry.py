"""A chain of ancestors is complete, without repetitions and bounded; a card keeps it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from man_core import ModelCard
from man_core.ancestry import MAX_ANCESTORS, Ancestor, chain

CARD = ModelCard("child", "1", "man", "A model.", weights_sha256="abc", credits=("A clinic",))


def ancestor(number: int, licence: str = "Apache-2.0") -> Ancestor:
    return Ancestor(f"m{number}", f"digest-{number}", "a set", licence, (f"Credit {number}",))


def test_the_newest_comes_first_and_each_once() -> None:
    older = (ancestor(2), ancestor(1), ancestor(2))
    assert [one.name for one in chain(ancestor(3), older)] == ["m3", "m2", "m1"]


def test_a_long_chain_is_bounded_and_loses_neither_licence_nor_credit() -> None:
    older: tuple[Ancestor, ...] = ()
    count = MAX_ANCESTORS + 10
    for number in range(count):
        older = chain(ancestor(number, f"licence {number % 3}"), older)
    assert len(older) == MAX_ANCESTORS
    assert (older[0].name, older[-1].name) == (f"m{count - 1}", "m0")
    credited = {credit for one in older for credit in one.credits}
    assert credited == {f"Credit {number}" for number in range(count)}
    licences = {text for one in older for text in one.licence.split("; ")}
    assert licences == {"licence 0", "licence 1", "licence 2"}


def test_a_card_keeps_its_ancestors_and_its_digest() -> None:
    card = replace(CARD, started_from=(ancestor(2), ancestor(1)))
    assert ModelCard.from_json(card.to_json()) == card
    assert card.digest == CARD.digest, "UIDs do not change by what is known of the origin"
    assert [one.name for one in card.lineage()] == ["child", "m2", "m1"]
    assert card.lineage()[0].credits == ("A clinic",)


def test_a_card_of_an_earlier_version_has_no_ancestors() -> None:
    fields = json.loads(CARD.to_json())
    del fields["started_from"]
    assert ModelCard.from_json(json.dumps(fields)) == CARD


@pytest.mark.parametrize(
    "chain_of_card", [[{"name": "x"}], [1], 5, [{"name": "x", "digest": "y", "credits": []}] * 99]
)
def test_a_wrong_chain_is_no_model_card(chain_of_card: object) -> None:
    fields = json.loads(CARD.to_json()) | {"started_from": chain_of_card}
    with pytest.raises(ValueError, match=r"not a model card|more than 32 ancestors"):
        ModelCard.from_json(json.dumps(fields))

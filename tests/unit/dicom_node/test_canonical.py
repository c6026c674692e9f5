"""One identity of one work: equal values are hashed alike, whoever read them, and UIDs stay."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import asdict, fields, replace
from decimal import Decimal
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.canonical import canonical_json
from dicom_node.ct.derived.provenance import DeriveOptions, Provenance
from dicom_node.ct.uids import derived_uid
from man_core import HuRange, ModelCard, find_model

SHA256 = st.text("0123456789abcdef", min_size=64, max_size=64)
STRENGTHS = st.one_of(st.floats(0, 1), st.sampled_from([0.0, -0.0, 1.0, 0.5, 0.1 + 0.2, 1e-5]))
GAINS = st.one_of(st.none(), st.floats(1, 64), st.sampled_from([1.0, 4.0, 2.35]))
OPTIONS = st.builds(
    DeriveOptions,
    series_number_offset=st.integers(1, 2**31),
    description_suffix=st.text("ab -_.", max_size=32),
    image_type=st.sampled_from(["PRIMARY", "SECONDARY"]),
    equipment=st.sampled_from(["standard", "keep_scanner"]),
)
PROVENANCES = st.builds(
    Provenance,
    model=st.text(max_size=8),
    version=st.text(max_size=8),
    weights_sha256=SHA256,
    digest=SHA256,
    steps=st.integers(1, 1000),
    strength=STRENGTHS,
    seed=st.integers(0, 2**63 - 1),
    dose_gain=GAINS,
    default_gain=GAINS,
)

CARD = "61b49814473d66d7604fa97727161e3b4e2a1a951a730f539aa228b9061fe68f"
"""Digest of the card of the first model."""

SENT = {
    1.0: "2.25.102689637092287548983628490560231672383",
    0.5: "2.25.102689637091987719367351787886898169831",
    0.1 + 0.2: "2.25.102689637095147892009318179019897505501",
    1e-5: "2.25.102689637107720668751182911281402892840",
    0.0: "2.25.102689637096156098898399390482993920960",
}
"""What nodes on SQLite have sent of one image, by strength, since the first version."""


def returned(value: float) -> Any:
    """The value as SQLite gives it back from the statement that claims a job."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE job (id INTEGER PRIMARY KEY, strength DOUBLE, state TEXT)")
        connection.execute("INSERT INTO job VALUES (1, ?, '')", (value,))
        return connection.execute("UPDATE job SET state = 'x' RETURNING strength").fetchone()[0]


@given(PROVENANCES, OPTIONS)
def test_a_key_is_the_same_offline_and_on_both_engines(
    made_by: Provenance, options: DeriveOptions
) -> None:
    key = made_by.key(options)
    number = made_by.strength
    for strength in (returned(number), Decimal(number), np.float64(number), Fraction(number)):
        assert replace(made_by, strength=strength).key(options) == key
    if (gain := made_by.dose_gain) is not None:
        for typed_gain in (returned(gain), Decimal(gain), np.float64(gain), Fraction(gain)):
            assert replace(made_by, dose_gain=typed_gain).key(options) == key
    typed = replace(made_by, steps=np.int64(made_by.steps), seed=np.int64(made_by.seed))
    assert typed.key(options) == key


@given(PROVENANCES, OPTIONS)
def test_a_key_is_what_nodes_on_sqlite_have_hashed(
    made_by: Provenance, options: DeriveOptions
) -> None:
    """Models are told a dose gain since later, and one that is the default changes nothing."""
    made_by = replace(made_by, dose_gain=made_by.default_gain)
    as_sent = (
        made_by.digest,
        made_by.steps,
        returned(made_by.strength),
        made_by.seed,
        asdict(options),
    )
    text = json.dumps(as_sent, sort_keys=True)
    assert made_by.key(options) == sha256(text.encode()).hexdigest()


@given(PROVENANCES, PROVENANCES, OPTIONS, OPTIONS)
def test_whatever_decides_the_result_changes_the_key(
    one: Provenance, other: Provenance, options: DeriveOptions, others: DeriveOptions
) -> None:
    for name in ("digest", "steps", "strength", "seed"):
        changed = replace(one, **{name: getattr(other, name)})
        assert (changed.key(options) == one.key(options)) == (changed == one), name
    if None not in (one.dose_gain, one.default_gain, other.dose_gain):
        changed = replace(one, dose_gain=other.dose_gain)
        assert (changed.key(options) == one.key(options)) == (changed == one)
    for field in fields(DeriveOptions):
        labelled = replace(options, **{field.name: getattr(others, field.name)})
        assert (one.key(labelled) == one.key(options)) == (labelled == options), field.name


@pytest.mark.parametrize("strength", SENT)
def test_uids_are_those_that_nodes_on_sqlite_have_sent(strength: float) -> None:
    made_by = Provenance("man", "", "", CARD, steps=1, strength=strength, seed=2095707373154640931)
    source = "1.2.826.0.1.3680043.8.498.77.2.1"
    assert derived_uid(source, made_by.key(DeriveOptions())) == SENT[strength]


def test_a_card_s_digest_does_not_depend_on_how_its_numbers_are_written(tmp_path: Path) -> None:
    card, _ = find_model("man")
    text = json.loads(card.to_json())
    text["hu_range"] = {"low": -1024, "high": 3072}
    text["steps"] = float(card.steps)
    assert card.hu_range == HuRange()
    assert ModelCard.from_json(json.dumps(text)).digest == card.digest


def test_only_a_gain_that_is_not_the_default_makes_another_key() -> None:
    card = ModelCard(name="told", version="0", method="man", summary="told", dose_gain=4.0)
    keys = [
        Provenance.of(card, steps=1, strength=1.0, seed=1, dose_gain=gain).key(DeriveOptions())
        for gain in (None, 4, 4.0, 4.001, 2, 2.0)
    ]
    assert keys[0] == keys[1] == keys[2]
    assert keys[4] == keys[5]
    assert len(set(keys)) == 3


NUMBERS = st.one_of(st.integers(-(2**62), 2**62), st.floats(allow_nan=False, allow_infinity=False))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(), NUMBERS),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=8,
)


@given(VALUES)
def test_canonical_text_reads_back_as_the_same_value(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


@given(NUMBERS, NUMBERS)
def test_numbers_have_one_text_exactly_when_they_are_equal(one: float, other: float) -> None:
    assert (canonical_json(one) == canonical_json(other)) == (one == other)


@given(st.integers(-(2**53), 2**53))
def test_a_whole_number_has_no_point(whole: int) -> None:
    texts = {canonical_json(one) for one in (whole, float(whole), Decimal(whole), np.int64(whole))}
    assert texts == {str(whole)}


def test_truth_and_text_are_no_numbers() -> None:
    assert canonical_json([True, "1", 1, None]) == '[true, "1", 1, null]'
    assert canonical_json({"b": 1.0, "a": (2,)}) == '{"a": [2], "b": 1}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"x", {1, 2}, object()])
def test_what_has_no_text_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        canonical_json(value)

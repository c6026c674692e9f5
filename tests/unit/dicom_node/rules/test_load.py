"""Mistakes in ``rules.yaml``: each is reported with its line, and never as a traceback."""

from __future__ import annotations

import textwrap
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.ledger_factory import settings_in
from support.told_model import write_told_model

from dicom_node.errors import ConfigurationError
from dicom_node.rules import ReloadableRules, load_rules, read_rules

PEERS = ["pacs", "archive"]


def write(folder: Path, text: str) -> Path:
    file = folder / "rules.yaml"
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return file


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as told:
        read_rules(write(folder, text), peers=PEERS)
    return str(told.value).splitlines()


@pytest.mark.parametrize("text", ["", "rules:", "rules: []", "# nothing\n"])
def test_no_rules_are_no_mistake(tmp_path: Path, text: str) -> None:
    assert read_rules(write(tmp_path, text), peers=PEERS).rules == ()


def test_the_template_is_valid_and_so_are_its_examples(tmp_path: Path) -> None:
    template = Path(__file__).parents[4] / "dicom_node" / "templates" / "rules.yaml"
    text = template.read_text(encoding="utf-8")
    assert read_rules(write(tmp_path, text), peers=PEERS).rules == ()
    examples = [line.removeprefix("#") for line in text.partition("rules: []")[2].splitlines()]
    rules = read_rules(write(tmp_path, "\n".join(examples)), peers=PEERS).rules
    assert [rule.name for rule in rules][-2:] == ["stroke protocol", "thick slices can wait"]


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        (
            "SliceTickness: 1",
            "'SliceTickness' is not a DICOM keyword (did you mean 'SliceThickness'?)",
        ),
        ("slicethickness: 1", "not a DICOM keyword (did you mean 'SliceThickness'?)"),
        ("xyz: 1", "'xyz' is not a DICOM keyword, write it as in PS3.6"),
        ("SliceThickness: {atleast: 1}", "is not a known key (did you mean 'at_least'?)"),
        (
            "SliceThickness: {}",
            "give a test: equals, matches, at_least, at_most or present",
        ),
        ("SliceThickness: thin", "SliceThickness is a number, and 'thin' is not"),
        ("SliceThickness: {matches: a}", "is a number, use equals, at_least or at_most"),
        ("SliceThickness: {at_least: 3, at_most: 1}", "at_least is greater than at_most"),
        ("SliceThickness: {at_least: thin}", "'match.SliceThickness.at_least' is 'thin'"),
        ("SliceThickness: {at_least: .nan}", "should be a finite number"),
        ("SeriesDescription: {at_most: 3}", "SeriesDescription is text, use equals or matches"),
        ("SeriesDescription: {matches: '('}", "it is not a regular expression"),
        ("SeriesDescription: {present: false, equals: a}", "an absent attribute has no value"),
        ("StationName: 0123", "StationName is text, put the value in quotes"),
        ("BurnedInAnnotation: NO", "put the value in quotes"),
        ("StudyDate: 2026-01-31", "put the value in quotes"),
        ("PixelData: x", "PixelData cannot be compared"),
        ("SourceImageSequence: x", "SourceImageSequence cannot be compared"),
        ("TransferSyntaxUID: x", "TransferSyntaxUID cannot be compared"),
        ("1: x", "'1' is not a DICOM keyword"),
    ],
)
def test_a_mistaken_condition_is_told_with_its_line(
    tmp_path: Path, condition: str, told: str
) -> None:
    text = f"rules:\n- name: a\n  match:\n    {condition}\n  skip: b\n"
    (mistake,) = mistakes(tmp_path, text)
    assert mistake.startswith("rules.yaml line 4: rule 1: ")
    assert told in mistake


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a", "must begin with `rules:`"),
        ("rules: 3", "'rules' is 3: a list was expected"),
        ("rules: [", "is not valid YAML"),
        ("rulez: []", "'rulez' is not a known key (did you mean 'rules'?)"),
        ("rules:\n- hello", "line 2: rule 1: it is 'hello': keys were expected"),
        ("rules:\n- name: a", "give either `skip: reason` or `denoise: {...}`"),
        ("rules:\n- {skip: a, denoise: {}}", "give either `skip: reason` or `denoise: {...}`"),
        ("rules:\n- {skip: a}\n- {skip: }", "rule 2: it is wrong: give either"),
        ("rules:\n- {skip: a, nam: b}", "'nam' is not a known key (did you mean 'name'?)"),
        ("rules:\n- {skip: a, source_ae: 'A\\B'}", "an AE title has 1 to 16"),
        ("rules:\n- {skip: a, skip: b}", "'skip' occurs twice"),
        ("rules:\n- {skip: a, name: b}\n- {skip: a, name: b}", "the name 'b' occurs twice"),
        ("rules:\n- denoise: {strenght: 1}", "'denoise.strenght' is not a known key (did you mean"),
        ("rules:\n- denoise: {strength: 2}", "'denoise.strength' is 2: input should be less than"),
        ("rules:\n- denoise: {dose_gain: 0.5}", "'denoise.dose_gain' is 0.5: input should be gre"),
        ("rules:\n- denoise: {dose_gain: 65}", "'denoise.dose_gain' is 65: input should be less"),
        ("rules:\n- denoise: {dose_gain: .nan}", "'denoise.dose_gain' is nan: input should be"),
        (
            "rules:\n- denoise: {dose_gain: 4, model: identity}",
            "line 2: rule 1: 'denoise.dose_gain' is wrong: Model 'identity' cannot be told a dose",
        ),
        (
            "rules:\n- denoise: {dose_gain: Auto}",
            "'denoise.dose_gain' is 'Auto': input should be a valid number",
        ),
        (
            "rules:\n- denoise: {dose_gain: auto, model: identity}",
            "line 2: rule 1: 'denoise.dose_gain' is wrong: Model 'identity' cannot be told a dose",
        ),
        (
            "rules:\n- denoise: {dose_gain: 4, target_noise_hu: 9}",
            "line 2: rule 1: 'denoise' is wrong: give either `dose_gain` or `target_noise_hu`",
        ),
        (
            "rules:\n- denoise: {target_noise_hu: 9, model: identity}",
            "line 2: rule 1: 'denoise.target_noise_hu' is wrong: Model 'identity' cannot be told a",
        ),
        (
            "rules:\n- denoise: {target_noise_hu: 0.5}",
            "'denoise.target_noise_hu' is 0.5: input should be gre",
        ),
        (
            "rules:\n- denoise: {target_noise_hu: true}",
            "'denoise.target_noise_hu' is wrong: a number is expected, not true or false",
        ),
        (
            "rules:\n- denoise: {dose_gain: true}",
            "'denoise.dose_gain' is wrong: a number is expected, not true or false",
        ),
        ("rules:\n- denoise: {priority: high}", "'denoise.priority' is 'high': input should be"),
        ("rules:\n- denoise: {incomplete: no}", "'denoise.incomplete' is False: input should be"),
        ("rules:\n- denoise: {destinations: []}", "'denoise.destinations' is []"),
        (
            "rules:\n- denoise: {destinations: pcas}",
            "not a peer in node.yaml (did you mean 'pacs'?)",
        ),
        (
            "rules:\n- denoise: {destinations: [x]}",
            "not a peer in node.yaml (known: archive, pacs)",
        ),
        ("rules:\n- denoise: {model: mann}", "There is no model named 'mann'; known are"),
        ("rules: &a\n- *a", "write its content out in full"),
    ],
)
def test_a_mistake_says_what_to_do(tmp_path: Path, text: str, told: str) -> None:
    (mistake,) = mistakes(tmp_path, text)
    assert mistake.startswith("rules.yaml")
    assert told in mistake


def test_a_gain_that_the_default_model_cannot_be_told_is_a_mistake(tmp_path: Path) -> None:
    rules = write(tmp_path, "rules:\n- skip: a\n  source_ae: X\n- denoise:\n    dose_gain: 4\n")
    with pytest.raises(
        ConfigurationError, match=r"rules\.yaml line 5: rule 2: .*'identity' cannot"
    ):
        load_rules(settings_in(tmp_path, rules=rules))
    told = {"name": str(write_told_model(tmp_path / "models"))}
    (_, rule) = load_rules(settings_in(tmp_path, rules=rules, model=told)).rules
    assert rule.denoise is not None
    assert rule.denoise.dose_gain == 4.0


def test_a_gain_by_the_noise_reference_needs_one(tmp_path: Path) -> None:
    rules = write(tmp_path, "rules:\n- denoise: {dose_gain: auto}")
    told = {"name": str(write_told_model(tmp_path / "models"))}
    with pytest.raises(ConfigurationError, match=r"needs `model\.noise_reference` in node"):
        load_rules(settings_in(tmp_path, rules=rules, model=told))
    told["noise_reference"] = "reference.json"
    (rule,) = load_rules(settings_in(tmp_path, rules=rules, model=told)).rules
    assert rule.denoise is not None
    assert rule.denoise.dose_gain == "auto"


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = """
        rules:
          - match: {Kernel: a, KVP: high}
            skip: b
          - denoise: {modell: c}
    """
    assert [line.split(":")[0] for line in mistakes(tmp_path, text)] == [
        "rules.yaml line 3",
        "rules.yaml line 3",
        "rules.yaml line 5",
    ]


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_rules(tmp_path / "rules.yaml", peers=PEERS)
    (tmp_path / "rules.yaml").write_bytes(b"rules: \xff\xfe")
    with pytest.raises(ConfigurationError, match="is not valid YAML"):
        read_rules(tmp_path / "rules.yaml", peers=PEERS)


def test_without_a_file_there_are_no_rules(tmp_path: Path) -> None:
    assert load_rules(settings_in(tmp_path)).rules == ()


def test_a_broken_file_is_refused_and_the_old_rules_stay(tmp_path: Path) -> None:
    file = write(tmp_path, "rules:\n- skip: a\n")
    live = ReloadableRules(settings_in(tmp_path, rules=file))
    write(tmp_path, "rules:\n- skipp: b\n")
    assert not live.reload()
    assert [rule.skip for rule in live.rules] == ["a"]
    file.unlink()
    assert not live.reload()
    write(tmp_path, "rules:\n- skip: b\n- skip: c\n")
    assert live.reload()
    assert [rule.skip for rule in live.rules] == ["b", "c"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "match", "skip", "denoise", "KVP", "equals", "matches", "model"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(rules=st.lists(VALUES, max_size=3), text=st.none() | st.text(max_size=60))
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_the_file_holds_the_answer_is_rules_or_sentences(
    tmp_path: Path, rules: list[object], text: str | None
) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"rules": rules}) if text is None else text, "utf-8")
    with suppress(ConfigurationError):
        read_rules(file, peers=PEERS)

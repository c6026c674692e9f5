"""Which rule takes a series, and what is decided where none does."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from dicom_node.product import MANUFACTURER, MODEL_NAME
from dicom_node.rules import (
    Decision,
    Explanation,
    Skip,
    decide,
    explain,
    read_rules,
)
from dicom_node.work_order import DoseGain, Priority, WorkOrder

WORK = WorkOrder(model="man", strength=1.0, destinations=("pacs",))


def header(modality: str = "CT", *image_type: str, **attributes: Any) -> Dataset:
    dataset = Dataset()
    dataset.Modality = modality
    dataset.ImageType = list(image_type or ("ORIGINAL", "PRIMARY", "AXIAL"))
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.fixture
def ask(tmp_path: Path) -> Any:
    """Ask the rules of a text about a series."""

    def explained(text: str, *series: Dataset, source_ae: str = "") -> Explanation:
        file = tmp_path / "rules.yaml"
        file.write_text(textwrap.dedent(text))
        rules = read_rules(file, peers=["pacs", "archive"]).rules
        return explain(series, otherwise=WORK, rules=rules, source_ae=source_ae)

    return explained


def matches(ask: Any, condition: str, *series: Dataset) -> bool:
    """Whether a condition, as the file has it, holds for a series."""
    text = f"rules:\n- match: {{{condition}}}\n  skip: taken\n"
    decision: Decision = ask(text, *series).decision
    return decision == Skip("taken", rule="rule 1")


def test_an_original_axial_series_is_denoised() -> None:
    assert decide([header(), header()], otherwise=WORK) == WORK


def test_what_is_not_for_us_is_skipped_for_the_commonest_reason() -> None:
    localizer = header("CT", "ORIGINAL", "PRIMARY", "LOCALIZER")
    decision = decide([localizer, localizer, header("MR")], otherwise=WORK)
    assert decision == Skip("localizer (scout) images")


def test_a_mixed_series_is_left_to_its_job_to_tell() -> None:
    assert decide([header("MR"), header()], otherwise=WORK) == WORK


def test_a_series_without_a_readable_image_is_skipped() -> None:
    assert decide([], otherwise=WORK) == Skip("none of its files can be read as DICOM")


def test_a_damaged_header_is_a_reason() -> None:
    damaged = header()
    damaged.add_new("SamplesPerPixel", "LO", "many")
    assert decide([damaged], otherwise=WORK) == Skip("damaged headers")


def test_the_first_rule_that_matches_wins_and_the_others_say_why_not(ask: Any) -> None:
    text = """
        rules:
          - name: thick
            match: {SliceThickness: {at_least: 4}}
            skip: too thick
          - name: head
            match: {BodyPartExamined: HEAD}
            denoise: {strength: 0.5, destinations: [archive, pacs], priority: urgent}
          - name: all
            match: {}
            skip: never reached
    """
    found = ask(text, header(SliceThickness=1.25, BodyPartExamined="HEAD"))
    assert found.decision == WorkOrder(
        "man", 0.5, ("archive", "pacs"), Priority.URGENT, "skip", rule="head"
    )
    assert found.passed == (("thick", "SliceThickness is 1.25, not at least 4"),)


def test_what_a_rule_leaves_out_is_as_configured(ask: Any) -> None:
    found = ask("rules:\n- name: a\n  denoise:\n", header())
    assert found.decision == WorkOrder("man", 1.0, ("pacs",), rule="a")


def test_every_word_of_the_work_reaches_the_decision(ask: Any) -> None:
    text = """
        rules:
          - denoise: {model: identity, strength: 0, priority: off_peak, incomplete: denoise}
    """
    assert ask(text, header()).decision == WorkOrder(
        "identity", 0.0, ("pacs",), Priority.OFF_PEAK, "denoise", rule="rule 1"
    )


def test_a_dose_gain_belongs_to_the_model_beside_it(tmp_path: Path) -> None:
    """What is configured for one model says nothing about another, which a rule names."""
    texts = (
        "{}",
        "{dose_gain: 8}",
        "{model: man}",
        "{model: identity}",
        "{target_noise_hu: 12}",
        "{dose_gain: auto}",
    )
    (tmp_path / "rules.yaml").write_text("rules:\n" + "".join(f"- denoise: {t}\n" for t in texts))
    rules = read_rules(tmp_path / "rules.yaml", peers=[]).rules

    def wanted(default: WorkOrder) -> list[tuple[DoseGain, float | None]]:
        orders = [rule.decision(default) for rule in rules]
        return [(one.dose_gain, one.target_noise_hu) for one in orders if not isinstance(one, Skip)]

    own, none, noise, auto = (8, None), (None, None), (None, 12), ("auto", None)
    for default in (replace(WORK, dose_gain=2.0), replace(WORK, target_noise_hu=9.0)):
        given = (default.dose_gain, default.target_noise_hu)
        assert wanted(default) == [given, own, given, none, noise, auto]


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("SliceThickness: 1.25", True),
        ("SliceThickness: '1.250'", True),
        ("SliceThickness: [1, 1.25]", True),
        ("SliceThickness: {at_least: 1.25, at_most: 1.25}", True),
        ("SliceThickness: {at_least: 1.3}", False),
        ("SliceThickness: {at_most: 1.2}", False),
        ("SliceThickness: {present: true, at_most: 2}", True),
        ("ImageType: axial", True),
        ("ImageType: {equals: [LOCALIZER, AXIAL]}", True),
        ("ImageType: {matches: '^prim'}", True),
        ("ImageType: {matches: 'PRIMARY.*AXIAL'}", False),
        ("SeriesDescription: {matches: '1\\.25.*lung'}", True),
        ("SeriesDescription: {matches: '^lung'}", False),
        ("SeriesDescription: '  THORAX 1.25 lung '", True),
        ("KVP: {present: false}", True),
        ("KVP: {present: true}", False),
        ("KVP: 120", False),
        ("ConvolutionKernel: {present: false}", True),
        ("ImageType: {present: false}", False),
        ("PatientAge: {at_most: 2}", True),
        ("PatientAge: {at_least: 2}", False),
        ("PatientAge: 018M", True),
        ("BurnedInAnnotation: 'NO'", True),
    ],
)
def test_a_condition_looks_at_values_as_dicom_means_them(
    ask: Any, condition: str, holds: bool
) -> None:
    image = header(
        SliceThickness="1.25",
        SeriesDescription="Thorax 1.25 LUNG",
        PatientAge="018M",
        BurnedInAnnotation="NO",
        ConvolutionKernel="",
    )
    assert matches(ask, condition, image) is holds


def test_a_value_that_is_no_number_or_age_fits_nothing(ask: Any) -> None:
    damaged = header(PatientAge="old")
    damaged.add_new("SliceThickness", "LO", "thin")
    assert not matches(ask, "SliceThickness: {at_most: 100}", damaged)
    assert not matches(ask, "PatientAge: {at_least: 0}", damaged)


def test_all_conditions_hold_in_every_image_that_could_be_denoised(ask: Any) -> None:
    text = "rules:\n- match: {KVP: 120, Exposure: {at_most: 50}}\n  skip: taken\n"
    low, high = header(KVP=120, Exposure=20), header(KVP=120, Exposure=80)
    dose_sheet = header("SR")
    assert ask(text, low, low, dose_sheet).decision == Skip("taken", "rule 1")
    found = ask(text, low, high)
    assert found.decision == WORK
    assert found.passed == (("rule 1", "Exposure is 80, not at most 50 (in 1 of 2 images)"),)


def test_a_rule_may_be_for_some_senders(ask: Any) -> None:
    text = "rules:\n- source_ae: [CT1, CT2]\n  skip: taken\n"
    assert ask(text, header(), source_ae="CT2").decision == Skip("taken", "rule 1")
    found = ask(text, header(), source_ae="CT3")
    assert found.passed == (("rule 1", "sent by CT3, not by CT1 or CT2"),)
    assert ask(text, header()).passed == (
        ("rule 1", "sent by an unknown AE title, not by CT1 or CT2"),
    )


def test_a_rule_may_name_what_is_skipped_by_default(ask: Any) -> None:
    """Some scanners call their own reconstructions derived."""
    derived = header("CT", "DERIVED", "PRIMARY", "AXIAL")
    assert isinstance(ask("rules: []", derived).decision, Skip)
    text = "rules:\n- match: {ImageType: DERIVED}\n  denoise: {}\n"
    assert isinstance(ask(text, derived).decision, WorkOrder)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (
            header(Manufacturer=MANUFACTURER, ManufacturerModelName=MODEL_NAME),
            "already denoised by this product",
        ),
        (header("MR"), "modality MR, not CT"),
        (header("CT", "ORIGINAL", "PRIMARY", "LOCALIZER"), "localizer (scout) images"),
        (header(RescaleType="ED"), "pixel values in ED, not in HU"),
        (header(PhotometricInterpretation="RGB"), "colour images (RGB)"),
        (header(NumberOfFrames=20), "multi-frame (enhanced) images, only single-frame CT images"),
    ],
)
def test_no_rule_lets_through_what_is_never_denoised(ask: Any, image: Dataset, reason: str) -> None:
    decision = ask("rules:\n- denoise: {}\n", image).decision
    assert isinstance(decision, Skip)
    assert decision.reason.startswith(reason)
    assert decision.rule == ""


def test_a_patient_is_not_quoted(ask: Any) -> None:
    text = """
        rules:
          - match: {PatientName: {matches: ^TEST}}
            skip: a
          - match: {PatientID: QA}
            skip: b
          - match: {StudyDate: {matches: ^1999}}
            skip: c
          - match: {StationName: {matches: ^X}}
            skip: d
    """
    image = header(
        PatientName="CANARY^BIRD", PatientID="C4N4RY", StudyDate="20010101", StationName="CT7"
    )
    found = ask(text, image)
    assert [objection for _rule, objection in found.passed] == [
        "PatientName is not matching '^TEST'",
        "PatientID is not QA",
        "StudyDate is not matching '^1999'",
        "StationName is CT7, not matching '^X'",
    ]

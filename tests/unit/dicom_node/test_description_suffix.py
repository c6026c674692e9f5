"""The end of a Series Description: two models or strengths look different in a PACS's list."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from support.ct_factory import make_series

from dicom_node.ct.derived.provenance import DeriveOptions, Provenance
from dicom_node.denoising.series import DenoiseOptions, denoise_series
from dicom_node.description_suffix import MAX_TEMPLATE_CHARACTERS, check_suffix, fill_suffix
from dicom_node.errors import ConfigurationError
from dicom_node.settings import load_settings
from man_core import ModelCard, find_model, load_denoiser

CONFIGURATION = """
ae_title: DENOISE
peers: [{name: pacs, ae_title: PACS, host: 127.0.0.1, port: 104}]
destinations: [pacs]
derived: {description_suffix: "%s"}
"""
WRONG = {
    " {modell}": "are allowed between braces",
    " {strength:.1f}": "are allowed between braces",
    " {}": "are allowed between braces",
    " {model} {model}": "{model} occurs twice",
    " {dose_gain}{dose_gain}": "{dose_gain} occurs twice",
    " A\\\\B": "a Series Description cannot end like this",
    "降噪": "a Series Description cannot end like this",
    "x" * 33: "a Series Description cannot end like this",
}


def load(folder: Path, suffix: str) -> str:
    file = folder / "node.yaml"
    file.write_text(CONFIGURATION % suffix, encoding="utf-8")
    return load_settings(file).derived.description_suffix


@pytest.mark.parametrize("suffix", WRONG)
def test_a_wrong_template_is_refused_when_the_configuration_is_read(
    tmp_path: Path, suffix: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, suffix)
    assert "description_suffix" in str(caught.value)
    assert WRONG[suffix] in str(caught.value)


@pytest.mark.parametrize(
    "suffix", [" MAN", "", " {model}", " {model} {strength}", " x{dose_gain}", "{x", "a}{b"]
)
def test_a_right_one_is_taken(tmp_path: Path, suffix: str) -> None:
    assert load(tmp_path, suffix) == suffix


def test_models_and_strengths_are_told_apart_in_the_description(tmp_path: Path) -> None:
    files = make_series(tmp_path / "in", slices=1, description="x" * 64)
    labels = DeriveOptions(description_suffix=" {model} {strength}")
    told = []
    for strength in (1.0, 0.5):
        out = tmp_path / f"out-{strength}"
        denoise_series(files, out, load_denoiser("identity"), DenoiseOptions(strength, labels))
        told.append(dcmread(out / "0001.dcm").SeriesDescription)
    assert told == ["x" * 53 + " identity 1", "x" * 51 + " identity 0.5"]


@pytest.mark.parametrize(
    ("template", "gain", "suffix"),
    [
        (" MAN", None, " MAN"),
        (" MAN", 4.0, " MAN"),
        (" MAN", 8.0, " MAN dose x8"),
        (" MAN", 2.34567, " MAN dose x2.346"),
        (" {model} x{dose_gain}", None, " told x4"),
        (" {model} x{dose_gain}", 8.0, " told x8"),
    ],
)
def test_a_gain_that_is_not_the_default_is_always_named(
    template: str, gain: float | None, suffix: str
) -> None:
    card = ModelCard(name="told", version="0", method="man", summary="told", dose_gain=4.0)
    made_by = Provenance.of(card, steps=1, strength=1.0, seed=1, dose_gain=gain)
    assert made_by.suffix(DeriveOptions(description_suffix=template)) == suffix


def test_a_model_that_is_not_told_a_gain_has_none_in_the_description() -> None:
    made_by = Provenance.of(find_model("identity")[0], steps=0, strength=1.0, seed=1)
    assert made_by.suffix(DeriveOptions(description_suffix=" {model}{dose_gain}")) == " identity"
    assert "dose gain" not in made_by.description()


def test_a_model_for_comparison_says_so_in_the_description_and_makes_no_other_uids() -> None:
    card = ModelCard("m", "1", "redcnn", "", weights_sha256="ab" * 32, for_comparison=True)
    plain, marked = (
        Provenance.of(one, steps=0, strength=1.0, seed=7)
        for one in (replace(card, for_comparison=False), card)
    )
    assert "for comparison" not in plain.description()
    assert "This model is for comparison with others, not for reading. Read" in marked.description()
    assert marked.key(DeriveOptions()) == plain.key(DeriveOptions())


def test_a_template_without_placeholders_changes_no_uid() -> None:
    made_by = Provenance("man", "1", "", "cd" * 32, steps=1, strength=1.0, seed=7)
    assert made_by.suffix(DeriveOptions()) == " MAN"
    assert made_by.key(DeriveOptions()) == made_by.key(DeriveOptions(description_suffix=" MAN"))


@given(
    st.text("ab {}\\é", max_size=6),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.text(max_size=80),
    st.floats(0, 1),
    st.none() | st.floats(1, 64),
)
def test_a_template_that_passes_always_fits(
    words: str,
    with_model: bool,
    with_strength: bool,
    with_gain: bool,
    model: str,
    strength: float,
    gain: float | None,
) -> None:
    template = words + "{model}" * with_model + "{strength}" * with_strength
    template += "{dose_gain}" * with_gain
    try:
        check_suffix(template)
    except ValueError:
        return
    named = {"model": model, "strength": strength, "dose_gain": gain}
    filled = fill_suffix(template, **named, default_gain=gain)
    assert len(template) <= MAX_TEMPLATE_CHARACTERS
    assert len(filled) <= 51
    assert len(fill_suffix(template, **named, default_gain=None)) <= 63
    assert filled.isascii()
    assert filled.isprintable()
    assert "\\" not in filled

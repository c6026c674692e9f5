"""The noise reference: which series it judges, and by what noise."""

from __future__ import annotations

import json
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from man_core import (
    MIN_PATIENTS,
    NoiseReference,
    SeriesNoise,
    gain_for_noise,
    learn_reference,
)

NOISES = st.floats(1.0, 200.0)
THICKNESSES = st.floats(0.3, 12.0)
NAMES = st.sampled_from([None, "", "B30f", "b30F ", "LUNG", "STANDARD"])
SERIES = st.builds(SeriesNoise, NOISES, st.floats(0.12, 3.0), THICKNESSES, NAMES, NAMES)
PATIENTS = st.sampled_from(["a", "b", "c", "d", "e"])
MEASURED = st.lists(st.tuples(PATIENTS, SERIES), max_size=15)


def reference_of(series: SeriesNoise, noises: list[float]) -> NoiseReference:
    """A reference of series like one, each of a patient of its own."""
    return learn_reference(
        (str(number), replace(series, noise_hu=noise)) for number, noise in enumerate(noises)
    )


@given(MEASURED)
def test_a_file_gives_back_the_reference(measured: list[tuple[str, SeriesNoise]]) -> None:
    reference = learn_reference(measured)
    assert NoiseReference.from_json(reference.to_json()) == reference
    for cell in reference.cells:
        assert cell.lowest_hu <= cell.noise_hu <= cell.highest_hu
        assert cell.patients <= cell.series <= len(measured)


@given(MEASURED, SERIES, st.randoms())
def test_the_order_of_the_series_does_not_matter(
    measured: list[tuple[str, SeriesNoise]], series: SeriesNoise, random: Random
) -> None:
    shuffled = list(measured)
    random.shuffle(shuffled)
    one, other = learn_reference(measured), learn_reference(shuffled)
    assert one == other
    cell = one.cell_for(series)
    assert cell is None or (cell.patients >= MIN_PATIENTS and cell.holds(series))


@given(SERIES, NOISES, st.sampled_from([1.0, 0.5, 0.25, 0.1]))
def test_a_lower_dose_is_measured_as_such(series: SeriesNoise, full_hu: float, dose: float) -> None:
    cell = reference_of(series, [full_hu] * MIN_PATIENTS).cell_for(series)
    assert cell is not None
    low_hu = full_hu / dose**0.5
    assert series.thickness_mm is not None
    gain = gain_for_noise(low_hu, cell.noise_at(series.thickness_mm))
    assert gain == pytest.approx(1 / dose, rel=0.051)


@given(SERIES, st.lists(NOISES, min_size=MIN_PATIENTS, max_size=9))
def test_the_noise_is_the_median_of_the_patients(series: SeriesNoise, noises: list[float]) -> None:
    cell = reference_of(series, noises).cell_for(series)
    assert cell is not None
    assert cell.noise_hu == pytest.approx(float(np.median(noises)), abs=1e-3)


@given(SERIES, st.lists(NOISES, max_size=MIN_PATIENTS - 1))
def test_too_few_patients_judge_nothing(series: SeriesNoise, noises: list[float]) -> None:
    """Many series of one patient are one patient."""
    reference = reference_of(series, noises)
    assert reference.cell_for(series) is None
    often = learn_reference([("one", series)] * 20)
    assert often.cell_for(series) is None
    assert "1 patients like it, fewer than" in often.reason_without(series)


@given(SERIES, THICKNESSES)
def test_thickness_counts_by_physics_and_within_its_class_only(
    series: SeriesNoise, thickness_mm: float
) -> None:
    reference = reference_of(series, [20.0] * MIN_PATIENTS)
    other = replace(series, thickness_mm=thickness_mm)
    cell = reference.cell_for(other)
    if cell is None:
        assert reference.reason_without(other) == "the noise reference has no series like it"
        return
    assert series.thickness_mm is not None
    expected = 20.0 * (series.thickness_mm / thickness_mm) ** 0.5
    assert cell.noise_at(thickness_mm) == pytest.approx(expected, rel=1e-3)


def test_a_sharp_kernel_and_a_low_dose_are_told_apart() -> None:
    """Both are loud (decision 0013): the kernel decides, and where none is named the texture."""
    smooth = SeriesNoise(12.0, 0.6, 3.0, "B30f", "CHEST")
    sharp = SeriesNoise(40.0, 1.4, 3.0, "D45f", "CHEST")
    reference = learn_reference(
        (f"{name}{number}", series)
        for name, series in (("smooth", smooth), ("sharp", sharp))
        for number in range(MIN_PATIENTS)
    )
    for unnamed in (False, True):
        for series, noise_hu, gain in ((smooth, 40.0, 11.0), (sharp, 40.0, 1.0)):
            loud = replace(series, noise_hu=noise_hu, kernel=None if unnamed else series.kernel)
            cell = reference.cell_for(loud)
            assert cell is not None
            assert gain_for_noise(noise_hu, cell.noise_at(3.0)) == gain
    assert reference.cell_for(replace(smooth, region="ABDOMEN")) is None
    assert reference.cell_for(replace(smooth, thickness_mm=None)) is None
    assert "no slice thickness" in reference.reason_without(replace(smooth, thickness_mm=None))


def test_series_that_show_nothing_count_nowhere() -> None:
    nothing = SeriesNoise(0.0, 0.6, 3.0, "B30f", "CHEST")
    odd = (nothing, replace(nothing, noise_hu=5.0, thickness_mm=None))
    assert learn_reference(("a", series) for series in odd).cells == ()


def test_more_kinds_than_a_table_holds_are_refused() -> None:
    many = (("a", SeriesNoise(9.0, 0.6, 3.0, f"K{number}", None)) for number in range(2000))
    with pytest.raises(ValueError, match="more than 1024 kinds"):
        learn_reference(many)


@given(
    st.sampled_from(
        ["kernel", "texture_per_mm", "region", "thickness_range_mm", "noise_hu", "patients"]
    ),
    st.sampled_from([None, "x", "", -1, 0, True, float("nan"), float("inf"), [], [2, 1], {}, 3.5]),
    SERIES,
)
def test_a_damaged_file_is_refused_or_a_reference(
    key: str, value: object, series: SeriesNoise
) -> None:
    content = json.loads(reference_of(series, [20.0] * 3).to_json())
    assume(content["cells"])
    content["cells"][0][key] = value
    try:
        reference = NoiseReference.from_json(json.dumps(content))
    except ValueError:
        return
    assert NoiseReference.from_json(reference.to_json()) == reference


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"format": 2, "cells": []}', "[" * 99999]
)
def test_another_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a noise reference"):
        NoiseReference.from_json(text)

"""Rows that need no fitting: each at its best strength."""

from __future__ import annotations

import gc
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from man_core import Condition, Volume
from man_core.quality import SOFT_TISSUE, psnr
from training.errors import TrainingError
from training.evaluate.cases import Case
from training.evaluate.classical import BestStrength
from training.evaluate.methods import CLASSICAL, methods_of

SIZE = 80
NAMES = ["best Gaussian", "non-local means", "total variation"]

Hu = NDArray[np.float32]


def case_of(noise_hu: float = 25.0, level_hu: float = 40.0) -> Case:
    """Two slices of soft tissue with a brighter disc, and their noisy version."""
    random = np.random.default_rng(0)
    row, column = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    full = np.full((2, SIZE, SIZE), level_hu, dtype=np.float32)
    full[:, np.hypot(row, column) < 12] += 60.0
    low = full + random.normal(0, noise_hu, full.shape).astype(np.float32)
    volume = Volume(low, (1.0, 0.7, 0.7), np.eye(4))
    return Case(
        split="phantom",
        name="one",
        patient="patient-1",
        dose=0.25,
        real=False,
        low=volume,
        full=full,
        condition=Condition(),
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_filter_brings_the_low_dose_nearer_to_the_truth(name: str) -> None:
    case = case_of()
    method = CLASSICAL[name]
    result, seconds = method.apply(case, SOFT_TISSUE)
    gain = psnr(result, case.full, SOFT_TISSUE) - psnr(case.low.hu, case.full, SOFT_TISSUE)
    assert gain > 5.0
    assert seconds > 0.0
    assert result.dtype == np.float32
    assert (method.name, method.steps, method.weights_sha256) == (name, 0, "")


@pytest.mark.parametrize("name", NAMES[1:])
def test_without_soft_tissue_no_noise_is_known_and_nothing_is_changed(name: str) -> None:
    case = case_of(level_hu=-900.0)
    result, _ = CLASSICAL[name].apply(case, SOFT_TISSUE)
    assert np.array_equal(result, case.low.hu)


def test_rows_stand_between_the_low_dose_and_the_models() -> None:
    rows = [m.name for m in methods_of(["identity"], device="cpu", classical=True)]
    assert rows == ["low dose", *NAMES, "identity"]


def test_a_model_without_steps_has_one_row() -> None:
    methods = methods_of(["identity"], device="cpu", steps=[1, 4], samplers=["ddim"])
    assert [m.name for m in methods] == ["low dose", "identity"]


def test_every_window_has_its_own_best_strength_and_slices_are_filtered_once() -> None:
    calls: list[float] = []

    def darker(hu: Hu, noise_hu: float, strength: float) -> Hu:
        assert 20 < noise_hu < 30
        calls.append(strength)
        return np.where(hu < 70, hu - strength, hu + strength).astype(np.float32)

    case = case_of()
    best = BestStrength(darker, (0.0, 300.0))
    assert np.array_equal(best(case, SOFT_TISSUE)[0], case.low.hu)
    bright = np.where(case.full < 70, case.full - 300.0, case.full + 300.0).astype(np.float32)
    other = replace(case, full=bright)
    assert np.array_equal(best(other, (-1000.0, 1000.0))[0] < case.low.hu, case.low.hu < 70)
    assert calls == [0.0, 0.0, 300.0, 300.0] * 2
    best(case, (0.0, 80.0))
    assert len(calls) == 8
    alive = weakref.ref(case)
    del case
    gc.collect()
    assert alive() is None


def test_without_scikit_image_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(TrainingError, match="extra `train`"):
        CLASSICAL["non-local means"].apply(case_of(), SOFT_TISSUE)

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.ct_factory import make_series

from man_core import Condition, ModelError, Volume
from training.assess.finding import Finding, Limit
from training.assess.protocol import Assessment, assess
from training.assess.report import json_of, tables_of
from training.cli import main
from training.errors import TrainingError
from training.evaluate.cases import Case
from training.evaluate.classical import gaussian_blur
from training.evaluate.methods import Method, untouched

SIZE = 96
SHAPE = (3, SIZE, SIZE)
PIXEL_MM = 0.8

Hu = NDArray[np.float32]


def case(patient: str = "p") -> Case:
    """Soft tissue between walls of fat, in air."""
    random = np.random.default_rng(1)
    clean = np.full(SHAPE, -1000.0)
    clean[:, 8:-8, 8:-8] = -100.0
    clean[:, 18:-18, 18:-18] = 50.0
    full = (clean + random.normal(0.0, 10.0, SHAPE)).astype(np.float32)
    low = (full + random.normal(0.0, 17.0, SHAPE)).astype(np.float32)
    volume = Volume(low, (3.0, PIXEL_MM, PIXEL_MM), np.eye(4))
    return Case("validation", "a", patient, 0.25, False, volume, full, Condition())


def method(change: float = 0.0, blur: float = 0.0) -> Method:
    def apply(case: Case, _window: tuple[float, float]) -> tuple[Hu, float]:
        hu = gaussian_blur(case.low.hu, blur) if blur else case.low.hu
        return hu + np.float32(change), 0.0

    return Method("changed", "abcdef0123456789", 2, apply, "ddim")


def assessed(by: Method) -> Assessment:
    return assess(by, [case()], [case()], trials=6)


def finding(assessment: Assessment, quantity: str) -> Finding:
    (found,) = (f for f in assessment.findings if f.quantity == quantity)
    return found


def test_what_changes_nothing_only_leaves_the_noise_between_slices() -> None:
    done = assessed(untouched())
    broken = {found.quantity for found in done.broken}
    assert {found.passed for found in done.findings} == {True, False, None}
    assert all("slices" in quantity or "noise" in quantity for quantity in broken)
    assert finding(done, "change of full dose over its noise").value == 0.0
    assert finding(done, "energy between slices").value > 1.2


def test_a_shift_of_all_hu_is_a_bias_in_every_tissue_beside_an_unbiased_low_dose() -> None:
    done = assessed(method(change=3.0))
    for tissue in ("fat", "soft tissue"):
        found = finding(done, f"HU bias, {tissue}")
        assert found.value == pytest.approx(3.0, abs=0.7)
        assert found.low_dose == pytest.approx(found.value - 3.0, abs=0.01)
        assert found.passed is False


def test_opposite_biases_of_two_patients_do_not_cancel() -> None:
    def apply(case: Case, _window: tuple[float, float]) -> tuple[Hu, float]:
        return case.full + np.float32(2.5 if case.patient == "p" else -2.5), 0.0

    done = assess(Method("two", "", 0, apply), [case(), case("q")], trials=0)
    assert finding(done, "HU bias, soft tissue").passed is True
    found = finding(done, "HU bias of a patient, soft tissue")
    assert found.value == pytest.approx(2.5, abs=0.01)
    assert (found.passed, found.low_dose) == (False, pytest.approx(0.0, abs=0.5))
    assert found.note == "2 patient(s), at most +2.5 HU"


def test_slices_of_one_patient_make_one_bias() -> None:
    def apply(case: Case, _window: tuple[float, float]) -> tuple[Hu, float]:
        return case.full + np.float32(-1.5), 0.0

    found = assess(Method("one", "", 0, apply), [case(), case()], trials=0)
    assert finding(found, "HU bias of a patient, fat").note == "1 patient(s), at most -1.5 HU"


@pytest.mark.parametrize(("share", "kept"), [(1.0, True), (0.8, False), (1.2, False)])
def test_the_contrast_of_lesions_has_limits_of_its_own(share: float, kept: bool) -> None:
    def apply(case: Case, _window: tuple[float, float]) -> tuple[Hu, float]:
        lesions = case.full - plain
        return plain + np.float32(share) * lesions, 0.0

    plain = case().full
    done = assess(Method("fainter", "", 0, apply), [case()], trials=6)
    median = finding(done, "contrast of lesions, median")
    assert (median.value, median.low_dose) == (pytest.approx(share, abs=0.01), 1.0)
    assert median.passed is kept
    assert finding(done, "contrast of lesions, least").passed is True
    assert finding(done, "lesions lost").value == 0


def test_a_strong_blur_is_reported_for_changed_full_dose_and_lost_lesions() -> None:
    done = assessed(method(blur=6.0))
    assert {"lesions lost", "change of full dose over its noise"} <= {
        found.quantity for found in done.broken
    }
    lost = finding(done, "lesions lost")
    assert lost.value >= 1
    assert "6 lesions" in lost.subject


def test_trials_are_shared_by_all_slices_and_progress_is_reported() -> None:
    told: list[tuple[int, int | None]] = []
    done = assess(
        untouched(), [case(), case()], trials=5, on_case=lambda done, of: told.append((done, of))
    )
    assert told == [(1, 2), (2, 2)]
    assert "5 lesions" in finding(done, "lesions lost").subject


def test_full_dose_of_a_stack_keeps_the_places_of_its_slices() -> None:
    seen: list[int] = []

    def apply(case: Case, _window: tuple[float, float]) -> tuple[Hu, float]:
        seen.append(len(case.neighbours))
        assert len(case.neighbours) == len(case.low.hu)
        return case.low.hu, 0.0

    short = case()
    low = replace(short.low, hu=np.repeat(short.low.hu, 2, axis=0))
    full, places = np.repeat(short.full, 2, axis=0), tuple(3.0 * index for index in range(6))
    stack = replace(short, low=low, full=full, positions_mm=places)
    assess(Method("seeing", "", 0, apply), [stack], trials=0, pairs=0)
    assert seen == [6, 4]


def test_without_room_for_a_lesion_there_is_no_verdict() -> None:
    done = assess(untouched(), [case()], trials=0)
    assert finding(done, "lesions lost").passed is None
    assert math.isnan(finding(done, "lesions lost").value)


def test_texture_in_tissue_is_reported_and_has_no_limit() -> None:
    done = assessed(method(blur=1.5))
    found = finding(done, "mean frequency over full dose, with anatomy")
    assert found.limit is None
    assert found.value < 0.8
    assert found.low_dose == pytest.approx(1.0, abs=0.1)


def test_nothing_to_assess_and_a_model_that_fails_are_said() -> None:
    def fail(_case: Case, _window: tuple[float, float]) -> tuple[Hu, float]:
        raise ModelError("the model gave up")

    with pytest.raises(TrainingError, match="nothing to assess"):
        assess(untouched(), [])
    with pytest.raises(TrainingError, match="gave up"):
        assess(Method("bad", "", 0, fail), [case()])


@pytest.mark.parametrize(
    ("limit", "words", "inside", "outside"),
    [
        (Limit(-1.0, 1.0), "±1", -1.0, 1.01),
        (Limit(0.0, 0.5), "≤ 0.5", 0.5, 0.51),
        (Limit(0.0, 0.0), "0", 0.0, 1.0),
        (Limit(0.8, 1.2), "0.8 to 1.2", 0.8, 0.79),
        (Limit(0.7, math.inf), "≥ 0.7", 0.7, 0.69),
    ],
)
def test_a_limit_includes_its_ends(limit: Limit, words: str, inside: float, outside: float) -> None:
    assert str(limit) == words
    assert (limit.holds(inside), limit.holds(outside)) == (True, False)


def test_json_holds_every_finding_and_no_nan() -> None:
    done = assess(method(change=3.0), [case()], trials=0)
    told = json.loads(json.dumps(json_of(done), allow_nan=False))
    assert (told["model"], told["sampler"], told["steps"]) == ("changed", "ddim", 2)
    assert told["passed"] is False
    assert len(told["findings"]) == len(done.findings)
    assert {"value", "low_dose", "limit", "passed", "note"} < set(told["findings"][0])
    assert str(tables_of(done)[0].title).startswith("changed abcdef01, ddim 2 steps: validation")


@pytest.mark.parametrize(("words", "code"), [([], 0), (["--strict"], 1)])
def test_the_command_fails_for_a_broken_limit_only_when_strict(
    words: list[str],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Low dose as it is has too much energy between slices."""
    make_series(tmp_path, 2, 64, noise_hu=10)
    call = ["assess", "identity", "--data", str(tmp_path), "--series", str(tmp_path)]
    options = ["--no-phantom", "--no-sweep", "--trials", "0", "--pairs", "0", "--json", *words]
    monkeypatch.setattr(sys, "argv", ["man-train", *call, *options])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert (stopped.value.code or 0) == code
    told = json.loads(capsys.readouterr().out)
    broken = {found["quantity"] for found in told["findings"] if found["passed"] is False}
    assert "energy between slices" in broken

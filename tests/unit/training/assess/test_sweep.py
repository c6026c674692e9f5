"""The noise sweep, with models whose noise is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from man_core import Condition, ModelError, Volume
from man_core.context import alone
from training.assess import sweep as module
from training.assess.finding import Finding
from training.assess.loudness import MIN_LEVEL, louder
from training.assess.sweep import (
    TOTAL_VARIATION,
    Rows,
    Sweep,
    full_doses,
    measure_sweep,
    sweep_findings,
)
from training.errors import TrainingError
from training.evaluate.cases import Case
from training.evaluate.dials import at_strength
from training.evaluate.methods import Method

SIZE = 96
OWN_HU = 10.0
LEVELS = (10.0, 20.0, 60.0, 150.0)

Hu = NDArray[np.float32]


@pytest.fixture(autouse=True)
def one_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """One weight of the total variation, which is slow."""
    monkeypatch.setattr(module, "TV_WEIGHTS", (0.7,))


def case(own_hu: float = OWN_HU, name: str = "a") -> Case:
    """Soft tissue in air, three slices."""
    full = np.full((3, SIZE, SIZE), -1000.0)
    full[:, 8:-8, 8:-8] = 50.0
    noisy = (full + np.random.default_rng(1).normal(0.0, own_hu, full.shape)).astype(np.float32)
    volume = Volume(noisy, (3.0, 0.8, 0.8), np.eye(4))
    return Case("validation", name, name, 0.25, False, volume, noisy, Condition())


def leaving(share: Callable[[float], float], name: str = "model") -> Method:
    """A model that leaves a share of the added noise, as a function of it in HU."""

    def apply(case: Case, _window: tuple[float, float]) -> tuple[Hu, float]:
        added = case.low.hu - case.full
        return case.full + np.float32(share(float(added[:, 16:-16, 16:-16].std()))) * added, 0.0

    return Method(name, f"{name}-sha256", 1, apply)


def swept(model: Method, rows: Rows = Rows(), *cases: Case) -> Sweep:  # noqa: B008 - frozen
    return measure_sweep(model, cases or (case(),), rows, levels=LEVELS)


def finding(sweep: Sweep, quantity: str, subject: str = "") -> Finding:
    (found,) = (
        f for f in sweep_findings(sweep) if f.quantity == quantity and f.subject.endswith(subject)
    )
    return found


def test_the_noise_that_stands_in_soft_tissue_is_the_level() -> None:
    found = list(louder(case(), LEVELS))
    assert [loud.level_hu for loud in found] == [20.0, 60.0, 150.0]
    for loud in found:
        inside = loud.case.low.hu[0, 16:-16, 16:-16]
        assert float(inside.std()) == pytest.approx(loud.level_hu, rel=0.12)
        assert loud.case.full.shape == loud.case.low.shape == (1, SIZE, SIZE)
        assert loud.case.dose == pytest.approx((OWN_HU / loud.level_hu) ** 2, rel=0.15)


def test_the_slice_of_a_stack_stands_alone() -> None:
    stack = replace(case(), positions_mm=(0.0, 3.0, 6.0))
    (loud,) = louder(stack, (20.0,))
    assert loud.case.neighbours == alone(1)


def test_levels_differ_in_nothing_but_loudness() -> None:
    added = [
        (loud.case.low.hu - loud.case.full)[0, 16:-16, 16:-16].ravel()
        for loud in louder(case(), (20.0, 60.0))
    ]
    assert np.corrcoef(added)[0, 1] == pytest.approx(1.0, abs=1e-3)


def test_a_level_that_full_dose_already_has_is_left_out_and_counted() -> None:
    assert [loud.level_hu for loud in louder(case(30.0), LEVELS)] == [60.0, 150.0]
    assert not list(louder(case(), (MIN_LEVEL * OWN_HU * 0.9,)))
    sweep = swept(leaving(lambda _hu: 0.3), Rows(), case(), case(30.0, "b"))
    assert [(p.noise_hu, p.series) for p in sweep.model.points] == [(20, 1), (60, 2), (150, 2)]
    assert finding(sweep, "noise left at 20 HU").note == "1 series"


def test_without_soft_tissue_there_is_no_level() -> None:
    air = np.full((1, SIZE, SIZE), -1000.0, dtype=np.float32)
    empty = replace(case(), full=air, low=Volume(air, (3.0, 0.8, 0.8), np.eye(4)))
    rise = finding(
        swept(leaving(lambda _hu: 0.3), Rows(), empty), "rise of noise left with loudness"
    )
    assert math.isnan(rise.value)
    assert rise.passed is None


def test_a_constant_share_does_not_rise() -> None:
    sweep = swept(leaving(lambda _hu: 0.3))
    assert [p.noise_left for p in sweep.model.points] == pytest.approx([0.3] * 3, abs=1e-3)
    assert [p.noise_left for p in sweep.low.points] == pytest.approx([1.0] * 3)
    assert finding(sweep, "rise of noise left with loudness").passed is True


def test_a_share_that_rises_with_loudness_breaks_the_limit_by_its_largest_step() -> None:
    sweep = swept(leaving(lambda hu: 0.5 if hu > 100.0 else 0.4))
    rise = finding(sweep, "rise of noise left with loudness")
    assert (rise.value, rise.passed) == (pytest.approx(0.1, abs=0.002), False)


def test_series_that_join_at_a_louder_level_are_no_rise() -> None:
    """The second series joins at 60 HU, and of it more is always left."""
    quiet, loud = case(), case(30.0, "b")
    shares = {"a": 0.2, "b": 0.8}

    def apply(case: Case, _window: tuple[float, float]) -> tuple[Hu, float]:
        return case.full + np.float32(shares[case.name]) * (case.low.hu - case.full), 0.0

    sweep = swept(Method("two", "", 0, apply), Rows(), quiet, loud)
    assert sweep.model.points[1].noise_left == pytest.approx(0.5, abs=0.01)
    assert abs(sweep.model.rise) < 0.001


@pytest.mark.parametrize(("others", "kept"), [(0.6, True), (0.02, False)])
def test_psnr_must_be_above_that_of_every_other_row(others: float, kept: bool) -> None:
    model, other = leaving(lambda _hu: 0.05), leaving(lambda _hu: others, "other")
    sweep = swept(model, Rows(others=(other,)))
    assert [row.name for row in sweep.others] == ["other", TOTAL_VARIATION]
    for level in (20, 60, 150):
        found = finding(sweep, f"PSNR at {level} HU (dB)")
        assert found.passed is kept
        assert found.low_dose is not None
        assert found.value > found.low_dose
        assert "other " in found.note
        assert TOTAL_VARIATION in found.note


def test_other_settings_of_the_model_have_rises_and_no_leading() -> None:
    model = leaving(lambda _hu: 0.5)
    sweep = swept(model, Rows(settings=(at_strength(model, 0.5),)))
    name = "model, strength 0.5"
    assert finding(sweep, "noise left at 60 HU", name).value == pytest.approx(0.75, abs=1e-3)
    assert finding(sweep, "PSNR at 60 HU (dB)", name).limit is None
    assert finding(sweep, "rise of noise left with loudness", name).passed is True


def test_of_a_set_with_pairs_each_full_dose_counts_once() -> None:
    simulated, real = case(), replace(case(), real=True)
    assert full_doses([simulated, real]) == [simulated]
    assert full_doses([real]) == [real]


def test_a_model_that_fails_is_said() -> None:
    def fail(_case: Case, _window: tuple[float, float]) -> tuple[Hu, float]:
        raise ModelError("the model gave up")

    with pytest.raises(TrainingError, match="gave up"):
        swept(Method("bad", "", 0, fail))

"""Intervals and tests over patients, against known distributions and counts by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from training.evaluate.resampling import MAX_EXACT_PATIENTS, bootstrap, sign_flip_p


def test_the_interval_covers_the_mean_of_a_known_distribution() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(40):
        low, high = bootstrap(random.normal(5.0, 1.0, 30))
        covered += low <= 5.0 <= high
    assert covered >= 33
    assert bootstrap(np.array([1.0, 2.0, 4.0])) == bootstrap(np.array([1.0, 2.0, 4.0]))
    assert math.isnan(bootstrap(np.array([1.0]))[0])
    assert math.isnan(bootstrap(np.array([1.0, math.inf]))[0])


def test_a_patient_weighs_as_many_slices_as_he_has() -> None:
    values = np.array([0.0, 0.0, 0.0, 10.0])
    many, few = (bootstrap(values, np.array([1.0, 1.0, 1.0, slices])) for slices in (9.0, 0.1))
    assert many[1] > 9 > 3 > few[1]
    assert bootstrap(values, np.full(4, 7.0)) == pytest.approx(bootstrap(values))


def test_all_assignments_of_signs_are_counted() -> None:
    assert sign_flip_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0])) == 2 / 32
    assert sign_flip_p(np.array([-1.0, -2.0, -3.0])) == 2 / 8
    # |sum| >= 4 of signs on 1, 2, 5: all but +-(1 + 2 - 5), which are 2
    assert sign_flip_p(np.array([1.0, -2.0, 5.0])) == 6 / 8
    assert sign_flip_p(np.zeros(4)) == 1.0
    assert math.isnan(sign_flip_p(np.array([1.0])))
    assert math.isnan(sign_flip_p(np.array([1.0, math.nan])))


def test_random_signs_agree_with_all_of_them() -> None:
    random = np.random.default_rng(3)
    few = random.normal(0.4, 1.0, MAX_EXACT_PATIENTS)
    exact, sampled = sign_flip_p(few), sign_flip_p(np.append(few, 0.0))  # a zero changes nothing
    assert 0.01 < exact < 0.9
    assert sampled == pytest.approx(exact, abs=0.02)
    assert sign_flip_p(np.full(100, 1.0)) == 1 / 10_001, "never zero"

"""The dose gain that brings noise to a target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from man_core import MAX_DOSE_GAIN, MIN_DOSE_GAIN, gain_for_noise

NOISE = st.floats(0.0, 1e300)
TARGETS = st.floats(1e-300, 1e300)


@given(NOISE, TARGETS)
def test_a_gain_is_always_one_that_a_model_can_be_told(noise_hu: float, target_hu: float) -> None:
    assert MIN_DOSE_GAIN <= gain_for_noise(noise_hu, target_hu) <= MAX_DOSE_GAIN


@given(st.floats(0.01, 1000.0), st.floats(1.0, 64.0))
def test_noise_falls_as_the_square_root_of_the_dose(target_hu: float, gain: float) -> None:
    found = gain_for_noise(target_hu * gain**0.5, target_hu)
    assert found == pytest.approx(gain, rel=0.051)
    assert found == float(f"{found:.2g}")

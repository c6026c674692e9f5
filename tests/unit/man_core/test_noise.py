from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from support.ct_factory import ellipse

from man_core.noise import MAX_PATCHES, estimate_noise_and_texture, noise_hu


def test_a_long_series_is_measured_like_its_slices_in_bounded_memory() -> None:
    one = ellipse(1, 256, noise_hu=20.0)
    series = np.broadcast_to(one, (400, 256, 256))
    tracemalloc.start()
    long = estimate_noise_and_texture(series)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert long.patches == MAX_PATCHES
    assert long.std_hu == pytest.approx(noise_hu(one), rel=0.02)
    assert peak < 250 << 20

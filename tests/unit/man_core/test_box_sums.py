"""Sums and extremes over boxes: as by the definition, whatever the size of image and box."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from man_core import filters
from man_core.box_sums import block_sums, sliding_sums

SIZES = st.integers(1, 17)


@given(st.integers(0, 1), SIZES, st.integers(0, 9), st.integers(1, 4))
def test_sums_of_neighbours(axis: int, size: int, further: int, across: int) -> None:
    shape = (size + further, across)
    image = np.random.default_rng(size).integers(0, 99, shape if axis == 0 else shape[::-1])
    windows = np.lib.stride_tricks.sliding_window_view(image, size, axis)
    np.testing.assert_array_equal(sliding_sums(image, size, axis), windows.sum(-1))
    whole = windows[::size] if axis == 0 else windows[:, ::size]
    np.testing.assert_array_equal(block_sums(image, size, axis), whole.sum(-1))


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3, 5, 7, 15]))
def test_sums_and_extremes_of_a_square(rows: int, columns: int, size: int) -> None:
    image = torch.randint(0, 99, (2, rows, columns), generator=torch.Generator()).float()
    padded = filters.continued(image, size // 2, size // 2)
    squares = padded.unfold(1, size, 1).unfold(2, size, 1).flatten(3)
    assert torch.equal(filters.box_sums(image, size), squares.sum(-1))
    low, high = filters.extremes(image, size)
    assert torch.equal(low, squares.amin(-1))
    assert torch.equal(high, squares.amax(-1))

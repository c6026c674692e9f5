"""Tissue that padding cuts off is continued for the denoiser, and no sharp edge is shown to it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from man_core import Condition, Denoiser, Volume, denoise_volume, load_denoiser, spread_over_seeds
from man_core.beyond_padding import CONTINUED_PIXELS, ContinuedSlices, continued_tissue
from man_core.slices import ArraySlices
from man_core.uncertainty import stream_spread_over_seeds

AIR, SOFT = -1000.0, 40.0
SIZE = 128
NOISE_HU = 20.0


def distance_from_centre(rows: int = SIZE, columns: int = SIZE) -> NDArray[np.float64]:
    row, column = np.ogrid[:rows, :columns]
    return np.hypot(row - (rows - 1) / 2, column - (columns - 1) / 2)


def body(radius: float) -> NDArray[np.float32]:
    """One slice of soft tissue in air, with noise."""
    noise = np.random.default_rng(0).normal(0.0, NOISE_HU, (1, SIZE, SIZE))
    hu = np.where(distance_from_centre() < radius, SOFT, AIR) + noise
    return hu.astype(np.float32)


def padded(hu: NDArray[np.float32], radius: float) -> tuple[Volume, NDArray[np.bool_]]:
    """A volume with padding outside a circle, and its mask."""
    padding = np.broadcast_to(distance_from_centre() > radius, hu.shape)
    return volume(np.where(padding, np.float32(AIR), hu)), padding


def volume(hu: NDArray[np.float32]) -> Volume:
    return Volume(hu, (2.0, 0.8, 0.8), np.diag([2.0, 0.8, 0.8, 1.0]))


def denoised(
    source: Volume, denoiser: Denoiser, padding: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    return denoise_volume(source, denoiser, Condition(), seed=1, padding=padding)[0].hu


@pytest.fixture(scope="module")
def man() -> Denoiser:
    return load_denoiser("man", device="cpu")


def test_the_shipped_model_does_not_shift_tissue_beside_padding(man: Denoiser) -> None:
    hu = body(80.0)
    source, padding = padded(hu, 40.0)
    change = (denoised(source, man, padding) - source.hu)[0]
    from_padding = 40.0 - distance_from_centre()
    first = (from_padding >= 0.0) & (from_padding <= 3.0)
    assert abs(change[first].mean()) < 3.0
    assert change[first].std() < 1.5 * NOISE_HU
    as_air = (denoised(source, man) - source.hu)[0]  # padding that is not known to be padding
    assert as_air[first].std() > 1.5 * change[first].std()


def test_the_result_on_padding_is_the_source(man: Denoiser) -> None:
    source, padding = padded(body(80.0), 40.0)
    assert (denoised(source, man, padding)[padding] == AIR).all()


def test_padding_outside_the_body_changes_no_bit(man: Denoiser) -> None:
    source, padding = padded(body(40.0), 62.0)
    assert continued_tissue(source.hu, padding) is source.hu
    result, plain = denoised(source, man, padding), denoised(source, man)
    np.testing.assert_array_equal(result[~padding], plain[~padding])


def test_the_spread_over_seeds_is_that_of_the_continued_slices(man: Denoiser) -> None:
    source, padding = padded(body(80.0), 40.0)
    spread = np.empty_like(source.hu)

    def keep(first: int, part: NDArray[np.float32]) -> None:
        spread[first : first + len(part)] = part

    stream_spread_over_seeds(
        ArraySlices(source.hu, padding), man, Condition(), seeds=(1, 2), on_spread=keep
    )
    continued = continued_tissue(source.hu, padding)
    expected, _ = spread_over_seeds(volume(continued), man, Condition(), seeds=(1, 2))
    np.testing.assert_array_equal(spread, expected.hu)


def test_noise_in_air_is_no_tissue() -> None:
    noise = np.random.default_rng(1).normal(AIR, 60.0, (1, SIZE, SIZE)).clip(-1024.0)
    source, padding = padded(noise.astype(np.float32), 50.0)
    assert continued_tissue(source.hu, padding) is source.hu


def test_only_the_slice_that_is_cut_off_is_continued() -> None:
    source, padding = padded(np.concatenate((body(30.0), body(80.0))), 50.0)
    slices = ContinuedSlices(ArraySlices(source.hu, padding))
    np.testing.assert_array_equal(slices[0:1], source.hu[0:1])
    assert (slices[1:2] != source.hu[1:2]).any()
    assert (len(slices), slices.shape) == (2, source.hu.shape)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 24),
    columns=st.integers(1, 24),
    share=st.floats(0.0, 1.0),
    circle=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_padding_beside_tissue_is_filled_with_measured_values_and_nothing_else_changes(
    rows: int, columns: int, share: float, circle: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    padding = rng.random((rows, columns)) < share
    if circle:
        padding = distance_from_centre(rows, columns) > share * max(rows, columns)
    hu = np.where(padding, AIR, 1.0 + np.arange(rows * columns).reshape(rows, columns))
    source = hu.astype(np.float32)
    filled = continued_tissue(source[None], padding[None])[0]
    np.testing.assert_array_equal(filled[~padding], source[~padding])
    measured = np.argwhere(~padding)
    for place in np.argwhere(padding):
        if len(measured) == 0:
            assert filled[tuple(place)] == AIR
            continue
        apart = np.abs(measured - place)
        if apart.max(axis=1).min() > CONTINUED_PIXELS:
            assert filled[tuple(place)] == AIR
            continue
        inside = measured[apart[:, 1] <= CONTINUED_PIXELS]
        squares = ((inside - place) ** 2).sum(axis=1)
        allowed = set()
        for nearest in inside[squares == squares.min()]:
            row, column = 2 * nearest - place
            is_in = 0 <= row < rows and 0 <= column < columns
            mirrored = is_in and not padding[row, column]
            allowed.add(source[(row, column) if mirrored else tuple(nearest)])
        assert filled[tuple(place)] in allowed

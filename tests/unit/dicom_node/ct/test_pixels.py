from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dicom_node.ct.pixels import (
    AIR_HU,
    Encoding,
    declared_padding,
    padding_mask,
    to_hu,
    to_words,
    values_of,
)

SIZE = 8


@st.composite
def encodings(draw: st.DrawFn) -> Encoding:
    slope = draw(st.floats(1e-3, 10) | st.floats(-10, -1e-3) | st.just(1.0))
    bits, signed = draw(st.integers(1, 16)), draw(st.booleans())
    plain = Encoding(slope, slope * draw(st.integers(-50_000, 50_000)), bits, signed)
    values = st.integers(plain.lowest, plain.highest)
    ends = sorted((draw(values), draw(values)))
    padding = draw(st.none() | st.just((ends[0], ends[0])) | st.just((ends[0], ends[1])))
    return Encoding(slope, plain.intercept, bits, signed, padding)


def words_of(encoding: Encoding, seed: int) -> NDArray[np.integer]:
    values = np.random.default_rng(seed).integers(
        encoding.lowest, encoding.highest + 1, (SIZE, SIZE)
    )
    return values.astype(encoding.dtype)


@given(encodings(), st.integers(0, 2**32 - 1))
def test_stored_values_survive_the_way_through_hu(encoding: Encoding, seed: int) -> None:
    words = words_of(encoding, seed)
    back = to_words(to_hu(words, encoding), encoding, words)
    assert back.dtype == encoding.dtype
    np.testing.assert_array_equal(back, words)


@given(encodings(), st.integers(0, 2**32 - 1), st.floats(-1e5, 1e5))
def test_any_hu_stays_within_the_bits_and_out_of_the_padding(
    encoding: Encoding, seed: int, hu: float
) -> None:
    words = words_of(encoding, seed)
    mask = padding_mask(words, encoding)
    back = to_words(np.full(words.shape, hu, np.float32), encoding, words)
    np.testing.assert_array_equal(back[mask], words[mask])
    assert back.min() >= encoding.lowest
    assert back.max() <= encoding.highest
    covers_all = encoding.padding == (encoding.lowest, encoding.highest)
    if encoding.padding is not None and not covers_all:
        np.testing.assert_array_equal(
            declared_padding(back, encoding), declared_padding(words, encoding)
        )


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_bits_above_bits_stored_mean_nothing(seed: int, signed: bool) -> None:
    encoding = Encoding(1.0, 0.0, 12, signed)
    words = words_of(encoding, seed)
    noise = np.random.default_rng(seed).integers(0, 16, words.shape).astype(np.uint16) << 12
    dirty = ((words.view(np.uint16) & 0x0FFF) | noise).view(encoding.dtype)
    np.testing.assert_array_equal(values_of(dirty, encoding), words)


def test_padding_that_uses_unused_bits_is_kept_bit_for_bit() -> None:
    encoding = Encoding(1.0, -1024.0, 12, False, (63536, 63536))
    words = np.array([[63536, 1064]], np.uint16)
    hu = to_hu(words, encoding)
    np.testing.assert_array_equal(hu, [[AIR_HU, 40.0]])
    np.testing.assert_array_equal(to_words(hu + 5, encoding, words), [[63536, 1069]])


def test_hu_are_rounded_to_the_nearest_stored_value() -> None:
    encoding = Encoding(2.0, -1000.0, 12, False)
    hu = np.array([[-1000.0, -999.1, -998.9, 0.9, 1e9, -1e9]], np.float32)
    np.testing.assert_array_equal(
        to_words(hu, encoding, np.zeros(hu.shape, np.uint16)), [[0, 0, 1, 500, 4095, 0]]
    )


@pytest.mark.parametrize(("bits", "signed", "lowest", "highest"), [
    (12, False, 0, 4095), (16, False, 0, 65535), (12, True, -2048, 2047), (16, True, -32768, 32767),
])  # fmt: skip
def test_range_of_stored_values(bits: int, signed: bool, lowest: int, highest: int) -> None:
    encoding = Encoding(1.0, 0.0, bits, signed)
    assert (encoding.lowest, encoding.highest) == (lowest, highest)

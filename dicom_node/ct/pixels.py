"""Conversion between stored pixel values and HU, with padding (PS3.3 C.7.6.3 and C.11.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.ct.padding import undeclared_padding

AIR_HU: Final = -1000.0
"""Value given to a denoiser in place of padding: nothing was measured there, and air is neutral."""

WORD_BITS: Final = 16
"""Bits Allocated of every CT Image (PS3.3 C.8.2.1)."""


@dataclass(frozen=True)
class Encoding:
    """Encoding of HU in the stored pixels of one image.

    Attributes:
        slope: Rescale Slope, HU per stored unit, not zero.
        intercept: Rescale Intercept, HU.
        bits: Bits Stored, 1 to 16.
        signed: Whether Pixel Representation is two's complement.
        padding: Lowest and highest stored value that mean "no data"; None when none is declared.
    """

    slope: float
    intercept: float
    bits: int
    signed: bool
    padding: tuple[int, int] | None = None

    @classmethod
    def of(cls, header: Dataset) -> Encoding:
        """Read the encoding from a header that has all of its attributes (``headers.check``)."""
        signed, bits = int(header.PixelRepresentation) == 1, int(header.BitsStored)
        return cls(
            slope=float(header.RescaleSlope),
            intercept=float(header.RescaleIntercept),
            bits=bits,
            signed=signed,
            padding=_padding_of(header, signed, bits),
        )

    @property
    def lowest(self) -> int:
        """Smallest value that Bits Stored can hold."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """Largest value that Bits Stored can hold."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """int16 or uint16."""
        return np.dtype(np.int16 if self.signed else np.uint16)


def values_of(words: NDArray[Any], encoding: Encoding) -> NDArray[Any]:
    """Return stored words with the bits above Bits Stored replaced by the sign (PS3.5 8.1.1)."""
    unused = WORD_BITS - encoding.bits
    typed = words.astype(encoding.dtype, copy=False)
    values: NDArray[Any] = np.right_shift(np.left_shift(typed, unused), unused)
    return values


def padding_mask(words: NDArray[Any], encoding: Encoding) -> NDArray[np.bool_]:
    """Return the mask of pixels without data: declared padding, and constants that are no signal.

    Constants are searched among the stored values and, where words have unused bits, among whole
    signed words: so -2000 is found as the word 63536 of an unsigned image of twelve bits.
    """
    readings = [values_of(words, encoding)]
    whole = words.astype(encoding.dtype, copy=False).view(np.int16)
    if encoding.bits < WORD_BITS and not np.array_equal(whole, readings[0]):
        readings.append(whole)
    mask = declared_padding(words, encoding)
    for reading in readings:
        mask |= undeclared_padding(reading, reading * encoding.slope + encoding.intercept)
    return mask


def declared_padding(words: NDArray[Any], encoding: Encoding) -> NDArray[np.bool_]:
    """Return the mask of Pixel Padding Value, or its range to the Range Limit (PS3.3 C.7.5.1.1.2).

    Compared as the whole word and as the value that Bits Stored holds, since unused bits need not
    be the sign (PS3.5 8.1.1).
    """
    if encoding.padding is None:
        return np.zeros(words.shape, dtype=np.bool_)
    low, high = encoding.padding
    typed, values = words.astype(encoding.dtype, copy=False), values_of(words, encoding)
    mask: NDArray[np.bool_] = (typed >= low) & (typed <= high)
    mask |= (values >= low) & (values <= high)
    return mask


def to_hu(
    words: NDArray[Any], encoding: Encoding, padding: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Convert stored words to float32 HU of the same shape; padding (found if None) becomes air."""
    hu = values_of(words, encoding) * encoding.slope
    hu += encoding.intercept
    hu[padding_mask(words, encoding) if padding is None else padding] = AIR_HU
    return hu.astype(np.float32)


def to_words(
    hu: NDArray[np.float32],
    encoding: Encoding,
    source_words: NDArray[Any],
    padding: NDArray[np.bool_] | None = None,
) -> NDArray[Any]:
    """Convert HU to stored words in the source's encoding, with its padding bit for bit.

    Args:
        hu: [row, column], finite.
        encoding: The source image's.
        source_words: The source image's stored words [row, column].
        padding: Their padding, as ``padding_mask`` finds it where it is not given.
    """
    words = signal_words(hu, encoding)
    mask = padding_mask(source_words, encoding) if padding is None else padding
    words[mask] = source_words.astype(encoding.dtype, copy=False)[mask]
    return words


def signal_words(hu: NDArray[np.float32], encoding: Encoding) -> NDArray[Any]:
    """Convert HU to stored words, none of which is a value that the header declares as padding.

    Rounded to the nearest stored value and clipped to what Bits Stored holds.
    """
    values = hu.astype(np.float64)  # and the rest in place: each copy of it costs a millisecond
    values -= encoding.intercept
    values /= encoding.slope
    np.rint(values, out=values)
    np.clip(values, encoding.lowest, encoding.highest, out=values)
    words: NDArray[Any] = _outside_padding(values, encoding).astype(encoding.dtype)
    return words


def _outside_padding(values: NDArray[np.float64], encoding: Encoding) -> NDArray[np.float64]:
    if encoding.padding is None:
        return values
    low, high = encoding.padding
    above, below = high + 1, low - 1
    free = above if above <= encoding.highest else below
    if not encoding.lowest <= free <= encoding.highest:
        return values
    return np.where((values >= low) & (values <= high), free, values)


def _padding_of(header: Dataset, signed: bool, bits: int) -> tuple[int, int] | None:
    value = header.get("PixelPaddingValue")
    if value is None or value == "":
        return None
    limit = header.get("PixelPaddingRangeLimit")
    ends = [int(one) & 0xFFFF for one in (value, value if limit in (None, "") else limit)]
    if signed:
        # Writers confuse US and SS here, so that -2000 arrives as 63536, or as 2096 in twelve bits.
        narrow = all(1 << bits - 1 <= one < 1 << bits for one in ends)
        ends = [_sign_extended(one, bits if narrow else WORD_BITS) for one in ends]
    return min(ends), max(ends)


def _sign_extended(word: int, bits: int) -> int:
    return word - (1 << bits) if word >> bits - 1 & 1 else word

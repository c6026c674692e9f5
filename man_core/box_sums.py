"""Sums over boxes of an image [row, column] in few passes; each pass leaves Python's lock free."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray


def block_sums(image: NDArray[Any], size: int, axis: int) -> NDArray[Any]:
    """Sum each ``size`` neighbours along an axis; an incomplete last block is dropped."""
    whole = image.shape[axis] // size * size
    parts = (_part(image, start, whole, axis, size) for start in range(size))
    return functools.reduce(np.add, parts)


def sliding_sums(image: NDArray[Any], size: int, axis: int) -> NDArray[Any]:
    """Sum ``size`` neighbours at each place along an axis, in passes of doubled width."""
    if size == 1:
        return image
    length = image.shape[axis]
    half = sliding_sums(image, size // 2, axis)
    pairs = _part(half, 0, length - 2 * (size // 2) + 1, axis)
    total: NDArray[Any] = pairs + _part(half, size // 2, half.shape[axis], axis)
    if size % 2:
        total = _part(total, 0, length - size + 1, axis) + _part(image, size - 1, length, axis)
    return total


def _part(image: NDArray[Any], start: int, end: int, axis: int, step: int = 1) -> NDArray[Any]:
    part = slice(start, end, step)
    found: NDArray[Any] = image[part] if axis == 0 else image[:, part]
    return found

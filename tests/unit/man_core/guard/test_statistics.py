"""Statistics of the guard: equal to their definition, written out slowly in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from man_core.guard.pair import SlicePair, averaged_noise_share
from man_core.guard.statistics import ResidualStatistics, ResidualSums
from man_core.noise import NoiseTexture
from man_core.quality.windows import TISSUES

Hu = np.ndarray[Any, Any]
PIXEL_MM, SHAPE = 0.8, (3, 131, 239)
NOISE = NoiseTexture(20.0, 1.1, ((0.5, 0.0, 0.0), (0.5, 0.0, 0.0)), 100)


def windows(image: Hu, size: int) -> Hu:
    """Squares [row, column, square row, square column]; edge pixels are replicated."""
    return sliding_window_view(np.pad(image, size // 2, mode="edge"), (size, size))


def smoothed(image: Hu, sigma: float) -> Hu:
    reach = math.ceil(3.0 * sigma)
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = np.outer(line, line) / line.sum() ** 2
    return np.asarray(np.einsum("rckl,kl->rc", windows(image, 2 * reach + 1), kernel))


def halved(image: Hu) -> Hu:
    rows, columns = (length // 2 for length in image.shape)
    parts = image[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
    return np.asarray(parts.mean(axis=(1, 3)))


def blocks(image: Hu) -> Hu:
    """Sums over squares of 16 pixels [square]."""
    whole = np.pad(image, [(0, -length % 16) for length in image.shape])
    return np.asarray(whole.reshape(whole.shape[0] // 16, 16, -1, 16).sum(axis=(1, 3)).ravel())


class Slowly:
    """One slice of source and result."""

    def __init__(self, source: Hu, result: Hu, void: Hu) -> None:
        fine, self.smooth = smoothed(source, 1.0), smoothed(result, 1.0)
        self.removed = fine - self.smooth
        self.sigma = 5.0 / math.sqrt(8.0 * math.log(2.0)) / PIXEL_MM
        further = math.sqrt(self.sigma**2 - 1.0) / 2.0
        self.tissue = smoothed(halved(fine), further)
        self.blob = smoothed(halved(self.removed), further)
        self.change = halved(result - source)
        self.noise = halved((source - result - self.removed) ** 2)
        clipped = 4.0 * halved(((source <= -1023.0) | void).astype(float))
        self.whole = windows(clipped, 5).sum(axis=(2, 3)) < 0.02 * 100
        self.near_void = sliding_window_view(np.pad(void, 2), (5, 5)).any(axis=(2, 3))

    def edges(self, low: float, high: float) -> Hu:
        """Products of removed and Laplacian, and squares of the latter [sum, pixel]."""
        around = np.pad(self.smooth, 1, mode="edge")
        down, across = around[2:, 1:-1] - around[:-2, 1:-1], around[1:-1, 2:] - around[1:-1, :-2]
        neighbours = around[2:, 1:-1] + around[:-2, 1:-1] + around[1:-1, 2:] + around[1:-1, :-2]
        curvature = neighbours - 4.0 * self.smooth
        gradient = np.hypot(down, across) / 2.0
        there = (gradient >= low) & (gradient < high) & ~self.near_void
        return np.stack((self.removed * curvature, curvature**2))[:, there]

    def inside(self, low: float, high: float) -> Hu:
        near = windows(self.tissue, 5)
        alike = (near.min(axis=(2, 3)) >= low) & (near.max(axis=(2, 3)) <= high)
        return np.asarray(alike & self.whole)

    def ratio(self) -> Hu:
        kept, fine = averaged_noise_share(NOISE, self.sigma)
        usual = max(NOISE.std_hu * kept, 0.5)
        local = np.sqrt(windows(self.noise, 15).mean(axis=(2, 3))) * kept / fine
        near = windows(halved(self.smooth), 5)
        allowed = 0.1 * (near.max(axis=(2, 3)) - near.min(axis=(2, 3)))
        excess = np.maximum(np.abs(self.blob) - allowed, 0.0)
        return excess / np.clip(local, usual, 3.0 * usual) * (self.whole & (self.tissue > -950.0))


def blur(pairs: list[Slowly], low: float, high: float) -> float:
    product, square = np.concatenate([pair.edges(low, high) for pair in pairs], axis=1).sum(axis=1)
    return float(-2.0 * product / square)


def drift(pairs: list[Slowly], tissue: str) -> tuple[float, float]:
    masks = [pair.inside(*TISSUES[tissue]) for pair in pairs]
    pixels = np.concatenate([blocks(mask.astype(float)) for mask in masks])
    changes = [blocks(pair.change * mask) for pair, mask in zip(pairs, masks, strict=True)]
    change = np.concatenate(changes)
    mean = change.sum() / pixels.sum()
    return mean, math.sqrt(((change - mean * pixels) ** 2).sum()) / pixels.sum()


def series() -> tuple[Hu, Hu, Hu]:
    """Stripes of all tissues and of clipped air; noise, a blur, an invented lesion, padding."""
    random = np.random.default_rng(3)
    levels = np.repeat([-1024.0, -1000.0, -800.0, -100.0, 60.0, 130.0, 600.0, 60.0], 30)
    truth = np.broadcast_to(levels[: SHAPE[2]], SHAPE).copy()
    truth[:, 60:, 125:150] += 60.0
    noise = np.stack([smoothed(random.normal(size=SHAPE[1:]), 0.6) for _ in truth]) * 60.0
    noise[:, :, :60] *= 0.1  # else all the air is clipped
    source = np.maximum(truth + noise, -1024.0).astype(np.float32)
    result = np.stack([smoothed(one, 0.6) for one in source.astype(float)]) + 0.5
    result[1, 90:100, 130:140] += 80.0
    void = np.zeros(SHAPE, dtype=bool)
    void[1, 20:50, 90:120] = void[2, 0, 40] = True
    return source, result.astype(np.float32), void


SOURCE, RESULT, VOID = series()


def measured(step: int, void: Hu | None = VOID) -> ResidualStatistics:
    sums = ResidualSums(PIXEL_MM, NOISE)
    for first in range(0, len(SOURCE), step):
        part = slice(first, first + step)
        sums.add(first, SOURCE[part], RESULT[part], None if void is None else void[part])
    return sums.statistics()


@pytest.mark.parametrize("padded", [True, False])
def test_the_statistics_are_those_of_their_definition(padded: bool) -> None:
    void = VOID if padded else np.zeros_like(VOID)
    seen = measured(3, void if padded else None)
    double = [SOURCE.astype(float), RESULT.astype(float)]
    pairs = [Slowly(*parts) for parts in zip(*double, void, strict=True)]
    close: Callable[[Any], Any] = lambda value: pytest.approx(value, rel=1e-4)  # noqa: E731
    assert seen.faint_blur_px2 == close(blur(pairs, 20.0, 60.0))
    assert seen.strong_blur_px2 == close(blur(pairs, 60.0, math.inf))
    for tissue, one in seen.drift.items():
        assert one is not None
        assert (one.hu, one.error_hu) == close(drift(pairs, tissue))
    ratios = np.stack([pair.ratio() for pair in pairs])
    index, row, column = np.unravel_index(ratios.argmax(), ratios.shape)
    assert seen.blob is not None
    assert index == 1
    assert seen.blob.ratio == close(ratios.max())
    assert seen.blob.hu == close(pairs[index].blob[row, column])
    assert seen.blob.slice_index == index


def test_the_statistics_do_not_depend_on_the_company_of_a_slice() -> None:
    assert measured(1) == measured(2) == measured(3)


@pytest.mark.parametrize("std_hu", [0.0, 5.0, 60.0])
def test_no_blob_exceeds_its_bound(std_hu: float) -> None:
    noise = NoiseTexture(std_hu, 1.1, NOISE.autocorrelation, 100)
    source, result = torch.from_numpy(SOURCE), torch.from_numpy(RESULT)
    pair = SlicePair(source, result, PIXEL_MM, torch.from_numpy(VOID))
    assert 0.0 < float(pair.blob_ratio(noise).amax()) <= pair.max_blob_ratio(noise)

"""Full-reference image quality in stated windows: each value is a mean over slices. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from man_core.noise import noise_hu, soft_tissue
from man_core.quality.windows import TISSUES, Window, to_unit

SSIM_SIGMA_PIXELS = 1.5
SSIM_RADIUS_PIXELS = 5
"""Gaussian of Wang 2004, truncated at 3.5 sigma: 11 x 11 pixels."""

SSIM_K1 = 0.01
SSIM_K2 = 0.03

TISSUE_RING_PIXELS = 3
"""Radius of the ring from which the tissue of a pixel is read: noise hardly correlates so far."""

PADDING_HU = -1024.0
"""Value that scanners store where nothing was measured; a neighbourhood of it is no air."""

Image = NDArray[np.floating]
"""HU, [slice, row, column] or [row, column]."""


def slices_of(result: Image, truth: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Convert both images to float64 [slice, row, column].

    Raises:
        ValueError: The shapes differ, are not two- or three-dimensional, or are empty.
    """
    if result.shape != truth.shape or result.ndim not in (2, 3) or result.size == 0:
        raise ValueError(f"Images of shapes {result.shape} and {truth.shape} cannot be compared.")
    shape = (-1, *result.shape[-2:])
    return np.float64(result).reshape(shape), np.float64(truth).reshape(shape)


def psnr(result: Image, truth: Image, window_hu: Window) -> float:
    """Peak signal-to-noise ratio in dB, with the window's width as peak; infinite if equal."""
    result, truth = slices_of(result, truth)
    error = to_unit(result, window_hu) - to_unit(truth, window_hu)
    mean_square = np.mean(error**2, axis=(1, 2))
    with np.errstate(divide="ignore"):
        return float(np.mean(-10.0 * np.log10(mean_square)))


def ssim(result: Image, truth: Image, window_hu: Window) -> float:
    """Structural similarity of the windowed images, -1 to 1.

    Wang 2004, eq. 13, with the paper's 11 x 11 Gaussian of 1.5 pixels, k1 = 0.01, k2 = 0.03,
    population (co)variances, averaged over the pixels whose whole neighbourhood lies inside the
    image. scikit-image gives the same with ``gaussian_weights=True,
    use_sample_covariance=False``; torchmetrics averages over padded edges too, and is higher.

    Raises:
        ValueError: The shapes differ or a side is shorter than 11 pixels.
    """
    result, truth = slices_of(result, truth)
    if min(result.shape[1:]) <= 2 * SSIM_RADIUS_PIXELS:
        raise ValueError(f"SSIM needs slices of at least 11 x 11 pixels, got {result.shape[1:]}.")
    pairs = zip(to_unit(result, window_hu), to_unit(truth, window_hu), strict=True)
    return float(np.mean([_slice_ssim(x, y) for x, y in pairs]))


def rmse_hu(result: Image, truth: Image, window_hu: Window | None = None) -> float:
    """Root mean square error in HU; with a window, of values clipped to it."""
    result, truth = slices_of(result, truth)
    if window_hu is not None:
        result, truth = np.clip(result, *window_hu), np.clip(truth, *window_hu)
    return float(np.mean(np.sqrt(np.mean((result - truth) ** 2, axis=(1, 2)))))


def hu_bias(
    result: Image, truth: Image, tissues: Mapping[str, Window] = TISSUES
) -> dict[str, float]:
    """Mean of result minus truth in HU for each tissue that the truth shows.

    The truth is noisy, too, and selection of pixels by their own noise causes a bias: of bone near
    250 HU the bright half would be selected, which regresses to the mean. The tissue of a pixel is
    therefore read from the square ring three pixels around it, each side of which must show that
    tissue in the mean. A small structure within the ring counts as a whole, peak and surroundings,
    so that blurring it is no bias either. Padding is excluded.

    Values of version 0.1.0, which selected by the 5 x 5 mean, differ most in bone: there a light
    blur of a full-dose image had -10 HU and now has 2 HU.

    Scanners clip at -1024 HU, which affects low dose more: the air of a noisy low-dose image is
    truly brighter than that of its full dose. Compare the air of a model with that of the low dose.

    Args:
        result: HU, [slice, row, column] or [row, column].
        truth: HU, of the same shape.
        tissues: HU intervals by name.

    Returns:
        Bias by tissue; a tissue without pixels is omitted.
    """
    result, truth = slices_of(result, truth)
    sides, error = _ring_sides(truth), result - truth
    masks = {name: _shows(sides, interval) for name, interval in tissues.items()}
    return {name: float(error[mask].mean()) for name, mask in masks.items() if mask.any()}


def change_over_noise(result: Image, source: Image) -> float:
    """Difference of a result from its source in soft tissue, in units of the source's noise.

    Standard deviation of result minus source where the source shows soft tissue, over the noise of
    the source (``man_core.noise.noise_hu``). A full-dose image should hardly change: below 0.5.

    Returns:
        0 for no change; NaN if the source shows no soft tissue.
    """
    result, source = slices_of(result, source)
    level, tissue = noise_hu(source), soft_tissue(source)
    if level <= 0.0 or not tissue.any():
        return math.nan
    return float((result - source)[tissue].std()) / level


def _slice_ssim(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _gaussian(np.stack([x, y, x * x, y * y, x * y]))
    product, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance, variances = mean_xy - product, mean_xx + mean_yy - squares
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    luminance = (2.0 * product + c1) / (squares + c1)
    structure = (2.0 * covariance + c2) / (variances + c2)
    return float(np.mean(luminance * structure))


def _gaussian(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    offsets = np.arange(-SSIM_RADIUS_PIXELS, SSIM_RADIUS_PIXELS + 1)
    weights = np.exp(-0.5 * (offsets / SSIM_SIGMA_PIXELS) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        kept = maps.shape[axis] - 2 * SSIM_RADIUS_PIXELS
        along = np.moveaxis(maps, axis, 0)
        total = np.zeros_like(along[:kept])
        for start, weight in enumerate(weights):
            total += weight * along[start : start + kept]
        maps = np.moveaxis(total, 0, axis)
    return maps


def _ring_sides(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average the four sides of the square ring around each pixel [side, slice, row, column]."""
    radius = TISSUE_RING_PIXELS
    rows, columns = image.shape[1:]
    padded = np.pad(image, ((0, 0), (radius, radius), (radius, radius)), mode="edge")
    length = 2 * radius
    down = sliding_window_view(padded, length, axis=1).mean(axis=-1)
    across = sliding_window_view(padded, length, axis=2).mean(axis=-1)
    return np.stack(
        [
            across[:, :rows, :columns],
            across[:, length:, 1:],
            down[:, 1:, :columns],
            down[:, :rows, length:],
        ]
    )


def _shows(sides: NDArray[np.float64], interval_hu: Window) -> NDArray[np.bool_]:
    low, high = interval_hu
    lowest, highest = sides.min(axis=0), sides.max(axis=0)
    shown: NDArray[np.bool_] = (lowest >= low) & (highest <= high) & (highest > PADDING_HU)
    return shown

"""Full-reference image quality in stated windows: each value is a mean over slices. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from man_core.quality.windows import TISSUES, Window, to_unit

SSIM_SIGMA_PIXELS = 1.5
SSIM_RADIUS_PIXELS = 5
"""Gaussian of Wang 2004 cut at 3.5 sigma: 11 x 11 pixels."""
SSIM_K1 = 0.01
SSIM_K2 = 0.03

TISSUE_RADIUS_PIXELS = 2
"""Neighbourhood that decides a pixel's tissue: 5 x 5 pixels, a fifth of white noise is left."""
ALL_NEIGHBOURS = 1.0 - 0.5 / (2 * TISSUE_RADIUS_PIXELS + 1) ** 2
"""A share above this means every pixel of the neighbourhood."""

Image = NDArray[np.floating]
"""HU, [slice, row, column] or [row, column]."""


def slices_of(result: Image, truth: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both images as float64 [slice, row, column].

    Raises:
        ValueError: The shapes differ, are not two- or three-dimensional, or are empty.
    """
    if result.shape != truth.shape or result.ndim not in (2, 3) or result.size == 0:
        raise ValueError(f"cannot compare images of shapes {result.shape} and {truth.shape}")
    shape = (-1, *result.shape[-2:])
    return np.float64(result).reshape(shape), np.float64(truth).reshape(shape)


def psnr(result: Image, truth: Image, window_hu: Window) -> float:
    """Peak signal to noise ratio in dB, the peak being the window's width; infinite when equal."""
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
        raise ValueError(f"SSIM needs slices of at least 11 x 11 pixels, got {result.shape[1:]}")
    pairs = zip(to_unit(result, window_hu), to_unit(truth, window_hu), strict=True)
    return float(np.mean([_slice_ssim(x, y) for x, y in pairs]))


def rmse_hu(result: Image, truth: Image, window_hu: Window | None = None) -> float:
    """Root mean square error in HU; with a window, of the values clipped to it."""
    result, truth = slices_of(result, truth)
    if window_hu is not None:
        result, truth = np.clip(result, *window_hu), np.clip(truth, *window_hu)
    return float(np.mean(np.sqrt(np.mean((result - truth) ** 2, axis=(1, 2)))))


def hu_bias(
    result: Image, truth: Image, tissues: Mapping[str, Window] = TISSUES
) -> dict[str, float]:
    """Mean of result minus truth in HU for each tissue that the truth shows.

    A pixel's tissue is read from the truth's 5 x 5 mean, so that the truth's own noise does not
    choose its brightest pixels for a class and thereby make a bias of its own; and its neighbours
    must be of the same tissue, since at an edge a difference is sharpness and not bias.

    Args:
        result: HU, [slice, row, column] or [row, column].
        truth: HU, of the same shape.
        tissues: Name to HU interval.

    Returns:
        Bias by tissue; a tissue without pixels is left out.
    """
    result, truth = slices_of(result, truth)
    smooth, error = _mean_of_neighbours(truth), result - truth
    masks = {name: _inside(smooth, interval) for name, interval in tissues.items()}
    return {name: float(error[mask].mean()) for name, mask in masks.items() if mask.any()}


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
        shifted = (np.take(maps, range(start, start + kept), axis) for start in range(len(weights)))
        maps = np.sum([w * part for w, part in zip(weights, shifted, strict=True)], axis=0)
    return maps


def _inside(smooth: NDArray[np.float64], interval_hu: Window) -> NDArray[np.bool_]:
    low, high = interval_hu
    of_tissue = ((smooth >= low) & (smooth <= high)).astype(np.float64)
    return _mean_of_neighbours(of_tissue) > ALL_NEIGHBOURS


def _mean_of_neighbours(image: NDArray[np.float64]) -> NDArray[np.float64]:
    radius, side = TISSUE_RADIUS_PIXELS, 2 * TISSUE_RADIUS_PIXELS + 1
    rows, columns = image.shape[1:]
    padded = np.pad(image, ((0, 0), (radius, radius), (radius, radius)), mode="edge")
    down = sum((padded[:, step : step + rows] for step in range(side)), np.zeros(1))
    across = sum((down[:, :, step : step + columns] for step in range(side)), np.zeros(1))
    return across / side**2

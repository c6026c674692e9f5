"""Classical denoisers without training, each with the best strength for a case.

The strength is chosen on the truth, by the highest PSNR of the case in the window: an upper bound
for the method, not usable in practice, which makes the comparison demanding for trained models.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from man_core.noise import noise_hu_per_slice
from man_core.quality import Window
from training.errors import TrainingError
from training.evaluate.cases import Case

Hu = NDArray[np.float32]

Filter = Callable[[Hu, float, float], Hu]
"""Maps a slice [row, column] in HU, its noise in HU and a strength to the filtered slice."""

GAUSSIAN_PIXELS = tuple(round(0.1 * tenth, 1) for tenth in range(4, 21))
"""Standard deviations of the blurs."""

NLM_STRENGTHS = (0.5, 0.7, 0.9, 1.1)
"""Filtering parameters h of non-local means, in standard deviations of the slice's noise."""

NLM_PATCH = 5
NLM_DISTANCE = 9
"""Side and maximum distance of the compared patches, pixels."""

TV_STRENGTHS = (0.4, 0.7, 1.0, 1.4)
"""Weights of the total variation, in standard deviations of the slice's noise."""


class BestStrength:
    """A filter with the strength of highest PSNR on a case.

    Args:
        filter_slice: Filter.
        strengths: Strengths to try.
        kept: Whether to cache the results of all strengths for the lifetime of the case, for
            further windows; useful for slow filters.
    """

    def __init__(
        self, filter_slice: Filter, strengths: Sequence[float], *, kept: bool = True
    ) -> None:
        self._filter = filter_slice
        self._strengths = strengths
        self._kept: WeakKeyDictionary[Case, list[tuple[Hu, float]]] | None = None
        if kept:
            self._kept = WeakKeyDictionary()

    def __call__(self, case: Case, window: Window) -> tuple[Hu, float]:
        """Return HU [slice, row, column] and the seconds of the chosen strength."""
        return min(self._tried(case), key=lambda tried: _error(tried[0], case.full, window))

    def _tried(self, case: Case) -> Iterable[tuple[Hu, float]]:
        if self._kept is None:
            return self._all_strengths(case)
        if case not in self._kept:
            self._kept[case] = list(self._all_strengths(case))
        return self._kept[case]

    def _all_strengths(self, case: Case) -> Iterable[tuple[Hu, float]]:
        noise = noise_hu_per_slice(case.low.hu)
        for strength in self._strengths:
            began = time.perf_counter()
            slices = zip(case.low.hu, noise, strict=True)
            filtered = np.stack([self._filter(hu, float(std), strength) for hu, std in slices])
            yield filtered, time.perf_counter() - began


def non_local_means(hu: Hu, noise_hu: float, strength: float) -> Hu:
    """Filter by non-local means (Buades et al. 2005), with scikit-image.

    Raises:
        TrainingError: scikit-image is not installed.
    """
    if noise_hu <= 0:
        return hu
    filtered: Hu = _restoration().denoise_nl_means(
        hu,
        patch_size=NLM_PATCH,
        patch_distance=NLM_DISTANCE,
        h=strength * noise_hu,
        sigma=noise_hu,
        preserve_range=True,
    )
    return filtered.astype(np.float32)


def total_variation(hu: Hu, noise_hu: float, strength: float) -> Hu:
    """Filter by total variation (Rudin et al. 1992; Chambolle 2004), with scikit-image.

    Raises:
        TrainingError: scikit-image is not installed.
    """
    if noise_hu <= 0:
        return hu
    filtered: Hu = _restoration().denoise_tv_chambolle(hu, weight=strength * noise_hu)
    return filtered.astype(np.float32)


def gaussian_blur(hu: Hu, sigma: float) -> Hu:
    """Blur [slice, row, column] or [row, column] within slices; sigma in pixels."""
    radius = int(np.ceil(3 * sigma))
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    line = (line / line.sum()).to(torch.float32)
    slices = torch.from_numpy(hu.reshape(-1, 1, *hu.shape[-2:]).copy())
    image = functional.pad(slices, [radius] * 4, mode="replicate")
    image = functional.conv2d(image, line[None, None, :, None])
    blurred: Hu = functional.conv2d(image, line[None, None, None, :]).numpy().reshape(hu.shape)
    return blurred


def _blurred(hu: Hu, _noise_hu: float, sigma: float) -> Hu:
    return gaussian_blur(hu, sigma)


def _restoration() -> ModuleType:
    try:
        from skimage import restoration
    except ImportError as error:
        raise TrainingError(
            "Non-local means and total variation need scikit-image; "
            "install man-node with its extra `train`."
        ) from error
    module: ModuleType = restoration
    return module


def _error(hu: Hu, full: Hu, window: Window) -> float:
    """Return the mean log error over slices, which falls as the PSNR rises."""
    difference = np.clip(hu, *window) - np.clip(full, *window)
    with np.errstate(divide="ignore"):
        return float(np.mean(np.log(np.mean(difference.astype(np.float64) ** 2, axis=(1, 2)))))


FILTERS = {
    "best Gaussian": BestStrength(_blurred, GAUSSIAN_PIXELS, kept=False),
    "non-local means": BestStrength(non_local_means, NLM_STRENGTHS),
    "total variation": BestStrength(total_variation, TV_STRENGTHS),
}
"""Filters by the name of their row in a table."""

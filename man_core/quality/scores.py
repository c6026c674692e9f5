"""PSNR, SSIM and LPIPS, measured together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from man_core.quality.metrics import psnr, ssim
from man_core.quality.perceptual_weights import find_features
from man_core.quality.windows import SOFT_TISSUE, Window

if TYPE_CHECKING:
    from man_core.quality.lpips import Lpips


@dataclass(frozen=True)
class Scores:
    """Image quality of a result against the truth in one window, averaged over slices.

    Attributes:
        psnr_db: Peak signal-to-noise ratio, dB.
        ssim: Structural similarity, Gaussian 1.5 pixels.
        lpips: LPIPS, AlexNet v0.1; NaN if the perceptual weights are not installed.
    """

    psnr_db: float
    ssim: float
    lpips: float

    def to_dict(self) -> dict[str, float | None]:
        """Return plain values for JSON; null stands for a value not measured or not finite."""
        values = {"psnr_db": self.psnr_db, "ssim": self.ssim, "lpips": self.lpips}
        return {name: value if math.isfinite(value) else None for name, value in values.items()}


def measure(
    result: NDArray[np.floating], truth: NDArray[np.floating], window_hu: Window = SOFT_TISSUE
) -> Scores:
    """Measure PSNR, SSIM and LPIPS of a result in HU, [slice, row, column] or [row, column].

    Raises:
        ValueError: The shapes differ or the slices are smaller than 31 x 31 pixels.
        PerceptualWeightsError: The perceptual weights are not the published ones.
    """
    distance = _lpips()
    return Scores(
        psnr_db=psnr(result, truth, window_hu),
        ssim=ssim(result, truth, window_hu),
        lpips=math.nan if distance is None else distance(result, truth, window_hu),
    )


@lru_cache(maxsize=1)
def _lpips() -> Lpips | None:
    if find_features() is None:
        return None
    from man_core.quality.lpips import Lpips

    return Lpips()

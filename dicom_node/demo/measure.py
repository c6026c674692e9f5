"""Measurements of the demonstration: the series before and after against the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dicom_node.ct.decoding import decode
from dicom_node.ct.headers import load
from dicom_node.ct.pixels import Encoding, to_hu
from man_core import SOFT_TISSUE, Volume, hu_bias, measure, noise_hu


@dataclass(frozen=True)
class Row:
    """Measurements of one volume against the truth.

    Attributes:
        name: Name of the volume.
        noise_hu: Noise in soft tissue, HU.
        psnr_db: In the window [-160, 240] HU.
        ssim: In the same window.
        lpips: In the same window; None where the perceptual weights are missing.
        bias_hu: Mean error by tissue, HU.
    """

    name: str
    noise_hu: float
    psnr_db: float | None
    ssim: float | None
    lpips: float | None
    bias_hu: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def read_like(truth: Volume, paths: Sequence[Path]) -> Volume:
    """Read files with the geometry of the truth, in slice order, as a viewer shows them.

    The node's own reader refuses derived series.
    """
    hu = np.empty_like(truth.hu)
    for index, path in enumerate(paths):
        dataset = load(path, pixels=True)
        hu[index] = to_hu(decode(dataset, path.name), Encoding.of(dataset))
    return truth.with_hu(hu)


def compare(name: str, volume: Volume, truth: Volume) -> Row:
    """Measure a volume against the truth."""
    scores = measure(volume.hu, truth.hu, SOFT_TISSUE)
    return Row(
        name=name,
        noise_hu=noise_hu(volume.hu),
        psnr_db=scores.psnr_db,
        ssim=scores.ssim,
        lpips=None if math.isnan(scores.lpips) else scores.lpips,
        bias_hu=hu_bias(volume.hu, truth.hu),
    )


def truth_row(truth: Volume) -> Row:
    """Return the row of the truth: apparent noise of its structure, nothing to compare."""
    return Row("truth", noise_hu(truth.hu), None, None, None, {})


def beats(result: Row, before: Row) -> bool:
    """Whether the result is closer to the truth by every available measure."""
    pairs = (
        (result.psnr_db, before.psnr_db, 1),
        (result.ssim, before.ssim, 1),
        (result.lpips, before.lpips, -1),
    )
    return all(
        sign * (after - earlier) > 0
        for after, earlier, sign in pairs
        if after is not None and earlier is not None
    )

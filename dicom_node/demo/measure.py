"""The demo's numbers: what came back, beside what was sent and beside the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dicom_node.ct.headers import load
from dicom_node.ct.pixels import Encoding, decode, to_hu
from man_core import SOFT_TISSUE, Volume, hu_bias, measure, noise_hu


@dataclass(frozen=True)
class Row:
    """One volume against the truth.

    Attributes:
        name: What it is.
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
        """Plain values for JSON."""
        return asdict(self)


def read_like(truth: Volume, paths: Sequence[Path]) -> Volume:
    """Files of the truth's geometry, in slice order, as a viewer shows them.

    The node's own reader refuses what the node has made, which is what came back.
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
    """The truth's own row: it has noise of its structure only, and nothing to compare with."""
    return Row("truth", noise_hu(truth.hu), None, None, None, {})


def beats(result: Row, before: Row) -> bool:
    """Whether the result is nearer to the truth by every measure there is."""
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

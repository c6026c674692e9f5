"""Noise of one series of files, by which its dose is judged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydicom import Dataset

from dicom_node.ct.attributes import texts
from dicom_node.ct.conversion.pool import CONVERTERS
from dicom_node.ct.read import open_series
from man_core import NoiseSample, SeriesNoise, sampled_slices


def measure_noise(
    files: Sequence[Path], *, known: Mapping[Path, Dataset] | None = None
) -> SeriesNoise:
    """Estimate the noise of a series in soft tissue, on the slices by which each is measured.

    Args:
        files: The files of one CT series, in any order.
        known: Headers that have been loaded already; see ``open_series``.

    Returns:
        The estimate; 0 HU where the series shows no soft tissue.

    Raises:
        InputError: The series cannot be processed.
        StorageError: The disk, or the system, cannot read a file now.
    """
    series = open_series(files, contiguous=False, known=known or {})
    sample = NoiseSample(len(series.files))
    for index in sampled_slices(len(series.files)):
        sample.add(index, CONVERTERS.read(series.file(index)).hu[None])
    noise = sample.estimate()
    pixel_mm = math.sqrt(series.spacing_mm[1] * series.spacing_mm[2])
    return SeriesNoise(
        noise_hu=noise.std_hu,
        texture_per_mm=0.5 * noise.cutoff / pixel_mm,
        thickness_mm=series.condition.thickness_mm,
        kernel="\\".join(texts(series.headers[0], "ConvolutionKernel")) or None,
        region=series.condition.anatomy,
    )

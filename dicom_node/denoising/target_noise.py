"""The dose gain that brings the noise of a series to what is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydicom import Dataset

from dicom_node.ct.conversion.pool import CONVERTERS
from dicom_node.ct.read import open_series
from dicom_node.errors import ModelUnavailable
from dicom_node.logs import get_logger
from man_core import (
    MAX_DOSE_GAIN,
    MIN_DOSE_GAIN,
    Denoiser,
    ModelError,
    NoiseSample,
    gain_for_noise,
    sampled_slices,
)

log = get_logger(__name__)


def measured_gain(
    files: Sequence[Path],
    denoiser: Denoiser,
    target_hu: float,
    *,
    known: Mapping[Path, Dataset] | None = None,
) -> float:
    """Return the dose gain that brings the noise of a series to a target, as near as possible.

    The noise is estimated in soft tissue, on the slices by which every series is measured. A series
    that shows none gets the default of the model's card.

    Args:
        files: The files of one CT series, in any order.
        denoiser: A method ready to run.
        target_hu: Noise wanted, HU.
        known: Headers that have been loaded already; see ``open_series``.

    Raises:
        InputError: The series cannot be processed.
        ModelUnavailable: The model cannot be told a dose gain.
        StorageError: The disk, or the system, cannot read a file now.
    """
    default = _default(denoiser)
    series = open_series(files, contiguous=False, known=known or {})
    sample = NoiseSample(len(series.files))
    for index in sampled_slices(len(series.files)):
        sample.add(index, CONVERTERS.read(series.file(index)).hu[None])
    noise_hu = sample.estimate().std_hu
    if not noise_hu > 0.0:
        log.warning("no soft tissue to measure noise in: default dose gain", dose_gain=default)
        return default
    gain = gain_for_noise(noise_hu, target_hu)
    log.info("dose gain measured", noise_hu=round(noise_hu, 1), wanted_hu=target_hu, dose_gain=gain)
    if gain == MAX_DOSE_GAIN:
        log.warning("the noise wanted is out of reach", dose_gain=gain)
    return gain


def _default(denoiser: Denoiser) -> float:
    card = denoiser.info
    try:
        card.dose_gain_for(MIN_DOSE_GAIN)
    except ModelError as error:
        raise ModelUnavailable(str(error)) from error
    return card.dose_gain or MIN_DOSE_GAIN

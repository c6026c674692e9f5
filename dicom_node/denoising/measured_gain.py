"""The dose gain that a series gets by its own noise: to a noise wanted, or to that of full dose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydicom import Dataset

from dicom_node.denoising.series_noise import measure_noise
from dicom_node.errors import ModelUnavailable
from dicom_node.logs import get_logger
from dicom_node.work_order import MeasuredGain
from man_core import (
    MAX_DOSE_GAIN,
    MIN_DOSE_GAIN,
    Denoiser,
    ModelError,
    NoiseReference,
    SeriesNoise,
    gain_for_noise,
)

log = get_logger(__name__)


def measured_gain(
    files: Sequence[Path],
    denoiser: Denoiser,
    wanted: float | NoiseReference,
    *,
    known: Mapping[Path, Dataset] | None = None,
) -> MeasuredGain:
    """Return the dose gain that brings the noise of a series to a target, as near as possible.

    A series that shows no soft tissue, or is not like any in the reference, gets the default of the
    model's card; the log and the basis of the gain say so.

    Args:
        files: The files of one CT series, in any order.
        denoiser: A method ready to run.
        wanted: Noise wanted, HU, or the noise of full-dose series.
        known: Headers that have been loaded already; see ``open_series``.

    Raises:
        InputError: The series cannot be processed.
        ModelUnavailable: The model cannot be told a dose gain.
        StorageError: The disk, or the system, cannot read a file now.
    """
    default = _default(denoiser)
    series = measure_noise(files, known=known)
    if not series.noise_hu > 0.0:
        return _fallback(default, "it shows no soft tissue to measure noise in")
    if not isinstance(wanted, NoiseReference):
        return _gain(series, wanted, f"{wanted:g} HU wanted")
    cell = wanted.cell_for(series)
    if cell is None or series.thickness_mm is None:
        return _fallback(default, wanted.reason_without(series))
    full_hu = cell.noise_at(series.thickness_mm)
    return _gain(
        series,
        full_hu,
        f"{full_hu:.1f} HU of full dose ({cell.words}, {cell.patients} patients)",
    )


def _gain(series: SeriesNoise, target_hu: float, target: str) -> MeasuredGain:
    gain = gain_for_noise(series.noise_hu, target_hu)
    reach = ", which is out of reach" if gain == MAX_DOSE_GAIN else ""
    basis = f"noise of {series.noise_hu:.1f} HU against {target}{reach}"
    (log.warning if reach else log.info)("dose gain measured", dose_gain=gain, basis=basis)
    return MeasuredGain(gain, basis)


def _fallback(default: float, reason: str) -> MeasuredGain:
    basis = f"default of the model's card: the series cannot be judged, since {reason}"
    log.warning("dose gain not measured", dose_gain=default, basis=basis)
    return MeasuredGain(default, basis)


def _default(denoiser: Denoiser) -> float:
    card = denoiser.info
    try:
        card.dose_gain_for(MIN_DOSE_GAIN)
    except ModelError as error:
        raise ModelUnavailable(str(error)) from error
    return card.dose_gain or MIN_DOSE_GAIN

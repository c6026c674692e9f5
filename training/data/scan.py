"""One CT series on its way into a training set, wherever it was read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.ct.read import CtSeries, read_series
from dicom_node.errors import InputError
from man_core import Condition, Volume
from training.errors import TrainingError


class UnusableScanError(TrainingError):
    """A series that is left out; the message names no patient."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A series with what a training set keeps of it.

    Attributes:
        series: Identifies it; the same series read twice has the same.
        patient: Identifies the patient.
        volume: HU, rows towards posterior and columns towards left where the patient lay supine.
        padding: [slice, row, column], where the scanner had no data.
        condition: What a model may know of the scan.
        positions_mm: Place of each slice along the slice normal.
    """

    series: str
    patient: str
    volume: Volume
    padding: NDArray[np.bool_]
    condition: Condition
    positions_mm: tuple[float, ...]


def read_dicom(paths: Sequence[Path]) -> Scan:
    """Read the files of one series.

    Raises:
        UnusableScanError: The series is no CT series that can be read.
    """
    try:
        series = read_series(paths, contiguous=False)
    except InputError as error:
        raise UnusableScanError(str(error)) from error
    return Scan(
        series=series.series_uid,
        patient=patient_id(series),
        volume=series.volume,
        padding=series.padding,
        condition=series.condition,
        positions_mm=tuple(slice_position_mm(header) for header in series.headers),
    )


def patient_id(series: CtSeries) -> str:
    """The patient ID; a study without one counts as a patient of its own."""
    return str(series.headers[0].get("PatientID") or "") or series.study_uid


def slice_position_mm(header: Dataset) -> float:
    """Place of a slice along its normal, mm (PS3.3 C.7.6.2.1.1)."""
    row, column = np.split(np.array(header.ImageOrientationPatient, dtype=float), 2)
    place = np.array(header.ImagePositionPatient, dtype=float)
    return float(np.cross(row, column) @ place)

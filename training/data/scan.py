"""CT series read for a training set, from DICOM or NIfTI."""

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
    """A series cannot be used and is left out; the message holds no DICOM identifier."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A series with the data that a training set keeps.

    Attributes:
        series: Identifier; the same whenever the series is read.
        patient: Identifier of the patient.
        volume: HU, rows towards posterior and columns towards left for a supine patient.
        padding: Mask of pixels without data [slice, row, column].
        condition: Acquisition facts of the scan.
        positions_mm: Position of each slice along the slice normal.
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
        UnusableScanError: The series is not a readable CT series.
    """
    try:
        series = read_series(paths, contiguous=False)
    except InputError as error:
        raise UnusableScanError(f"{paths[0].parent}: {error}") from error
    return Scan(
        series=series.series_uid,
        patient=patient_id(series),
        volume=series.volume,
        padding=series.padding,
        condition=series.condition,
        positions_mm=tuple(slice_position_mm(header) for header in series.headers),
    )


def patient_id(series: CtSeries) -> str:
    """Return the patient ID; a study without one counts as a separate patient."""
    return str(series.headers[0].get("PatientID") or "") or series.study_uid


def slice_position_mm(header: Dataset) -> float:
    """Compute the position of a slice along its normal, mm (PS3.3 C.7.6.2.1.1)."""
    row, column = np.split(np.array(header.ImageOrientationPatient, dtype=float), 2)
    place = np.array(header.ImagePositionPatient, dtype=float)
    return float(np.cross(row, column) @ place)

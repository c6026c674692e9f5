"""What reading gives: a series as a volume, with what is needed to write it back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from man_core import Condition, Volume


@dataclass(frozen=True, eq=False)
class CtSeries:
    """One CT series, slices in order along their normal.

    Attributes:
        volume: HU with geometry; padding is air. Exact between slices only where ``regular``.
        condition: What a model may know of the scan.
        headers: One per slice, without pixel data.
        stored: Stored words [slice, row, column]; each slice as its own header says.
        padding: [slice, row, column], where the scanner had no data.
        files: One per slice.
        regular: Slices lie at one spacing; False for a sample of slices or changing spacing.
        remarks: What a person should know of the way the series was taken; phrases.
    """

    volume: Volume
    condition: Condition
    headers: tuple[Dataset, ...]
    stored: NDArray[Any]
    padding: NDArray[np.bool_]
    files: tuple[Path, ...]
    regular: bool
    remarks: tuple[str, ...] = ()

    @property
    def series_uid(self) -> str:
        """Series Instance UID."""
        return str(self.headers[0].SeriesInstanceUID)

    @property
    def study_uid(self) -> str:
        """Study Instance UID."""
        return str(self.headers[0].StudyInstanceUID)

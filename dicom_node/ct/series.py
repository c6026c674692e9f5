"""A CT series as a volume, with everything needed to write derived images of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from man_core import Condition, Volume


@dataclass(frozen=True, eq=False)
class CtSeries:
    """One CT series, slices in order along their normal.

    Attributes:
        volume: HU with geometry; padding is air. Exact between slices only where ``regular``.
        condition: Acquisition parameters that a model may use.
        headers: One per slice, without pixel data.
        padding: [slice, row, column], True where the scanner had no data.
        files: One per slice.
        regular: Whether slices lie at one spacing; False for samples and changing spacing.
        remarks: Phrases about how the series was interpreted, for its report.
    """

    volume: Volume
    condition: Condition
    headers: tuple[Dataset, ...]
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

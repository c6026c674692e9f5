"""A CT series known by its headers, and the files of its slices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.ct.image_file import ImageFile
from man_core import Condition

BYTES_PER_VOXEL: Final = 5
"""Memory for a padding flag and HU in single precision."""

SLICE_BYTES_PER_PIXEL: Final = 64
"""Memory for decoding one slice, in double precision and several copies."""


@dataclass(frozen=True, eq=False)
class CtStack:
    """One CT series, slices in order along their normal.

    Attributes:
        spacing_mm: Distance of voxel centres along (slice, row, column).
        affine: [4, 4], voxel index (slice, row, column, 1) to patient LPS mm.
        condition: Acquisition parameters that a model may use.
        headers: One per slice, small elements only.
        files: One per slice.
        regular: Whether slices lie at one spacing; False for samples and changing spacing.
        remarks: Phrases about how the series is interpreted, for its report.
    """

    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]
    condition: Condition
    headers: tuple[Dataset, ...]
    files: tuple[Path, ...]
    regular: bool
    remarks: tuple[str, ...] = ()

    @property
    def series_uid(self) -> str:
        """Series Instance UID."""
        return str(self.headers[0].SeriesInstanceUID)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of (slices, rows, columns)."""
        first = self.headers[0]
        return len(self.headers), int(first.Rows), int(first.Columns)

    def file(self, index: int) -> ImageFile:
        """Return the file of a slice with what is known of it."""
        return ImageFile.of(self.headers[index], self.files[index])

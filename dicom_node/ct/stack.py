"""A CT series known by its headers, and the files of its slices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.ct.image_file import ImageFile
from man_core import Condition, Neighbours

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
        neighbours: For each slice the indices of those below and above it, its own where there is
            none (``man_core.neighbours_of``).
        seen: Further slices of the series, which are only neighbours: headers and files. Their
            indices follow those of the slices.
    """

    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]
    condition: Condition
    headers: tuple[Dataset, ...]
    files: tuple[Path, ...]
    regular: bool
    remarks: tuple[str, ...] = ()
    neighbours: Neighbours = ()
    seen: tuple[tuple[Dataset, Path], ...] = ()

    @property
    def series_uid(self) -> str:
        """Series Instance UID."""
        return str(self.headers[0].SeriesInstanceUID)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of (slices, rows, columns)."""
        first = self.headers[0]
        return len(self.headers), int(first.Rows), int(first.Columns)

    def beside(self, index: int) -> list[tuple[str, str]]:
        """Return SOP class and instance of the slices beside one."""
        others = [self._image(one)[0] for one in self.neighbours[index] if one != index]
        return [(str(one.SOPClassUID), str(one.SOPInstanceUID)) for one in others]

    def file(self, index: int) -> ImageFile:
        """Return the file of a slice, or of one that is only seen, with what is known of it."""
        return ImageFile.of(*self._image(index))

    def _image(self, index: int) -> tuple[Dataset, Path]:
        beyond = index - len(self.headers)
        return self.seen[beyond] if beyond >= 0 else (self.headers[index], self.files[index])

"""The currency between rooms: a CT volume in HU with its geometry."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Volume:
    """An immutable CT volume, checked once when it is made.

    Attributes:
        hu: float32 [slice, row, column], Hounsfield units, finite, read-only.
        spacing_mm: Distance of voxel centres along (slice, row, column).
        affine: float64 [4, 4], voxel index (slice, row, column, 1) to patient LPS millimetres.

    Raises:
        ValueError: The array is not three-dimensional, is empty or not finite, or the geometry is
            not usable.
    """

    hu: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        hu = np.asarray(self.hu, dtype=np.float32)
        if hu is self.hu and hu.flags.writeable:
            hu = hu.view()
        affine = np.array(self.affine, dtype=np.float64)
        _check_voxels(hu)
        _check_geometry(self.spacing_mm, affine)
        hu.flags.writeable = False
        affine.flags.writeable = False
        object.__setattr__(self, "hu", hu)
        object.__setattr__(self, "affine", affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of (slices, rows, columns)."""
        slices, rows, columns = self.hu.shape
        return slices, rows, columns

    def with_hu(self, hu: NDArray[np.float32]) -> Volume:
        """The same geometry around other voxels of the same shape [slice, row, column]."""
        if hu.shape != self.hu.shape:
            raise ValueError(
                f"voxels of shape {hu.shape} do not fit a volume of shape {self.hu.shape}"
            )
        return replace(self, hu=hu)


def _check_voxels(hu: NDArray[np.float32]) -> None:
    if hu.ndim != 3 or 0 in hu.shape:
        raise ValueError(f"a volume is [slice, row, column] and not empty, got shape {hu.shape}")
    if not np.isfinite(hu).all():
        raise ValueError("a volume must be finite: it holds NaN or infinity")


def _check_geometry(spacing_mm: tuple[float, float, float], affine: NDArray[np.float64]) -> None:
    if len(spacing_mm) != 3 or not all(np.isfinite(mm) and mm > 0 for mm in spacing_mm):
        raise ValueError(f"spacing must be three positive millimetre values, got {spacing_mm}")
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ValueError("the affine must be a finite 4 x 4 matrix")

"""CT volume in HU with its geometry: the type that all packages exchange."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Volume:
    """An immutable CT volume, validated once at construction.

    Attributes:
        hu: float32 [slice, row, column], Hounsfield units, finite, read-only.
        spacing_mm: Distance of voxel centres along (slice, row, column).
        affine: float64 [4, 4], voxel index (slice, row, column, 1) to patient LPS millimetres.

    Raises:
        ValueError: The array is not three-dimensional, is empty or not finite, or the geometry is
            not usable.

    Example:
        >>> import numpy as np
        >>> from man_core import Volume
        >>> hu = np.zeros((2, 4, 4), dtype=np.float32)
        >>> volume = Volume(hu, spacing_mm=(3.0, 0.7, 0.7), affine=np.diag([3.0, 0.7, 0.7, 1.0]))
        >>> volume.shape
        (2, 4, 4)
        >>> volume.hu.flags.writeable
        False
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
        """Return a volume of the same geometry with other voxels [slice, row, column]."""
        if hu.shape != self.hu.shape:
            raise ValueError(
                f"Voxels of shape {hu.shape} do not fit a volume of shape {self.hu.shape}."
            )
        return replace(self, hu=hu)


def _check_voxels(hu: NDArray[np.float32]) -> None:
    if hu.ndim != 3 or 0 in hu.shape:
        raise ValueError(f"A volume is [slice, row, column] and not empty, got shape {hu.shape}.")
    if not np.isfinite(hu).all():
        raise ValueError("A volume must be finite; this one contains NaN or infinity.")


def _check_geometry(spacing_mm: tuple[float, float, float], affine: NDArray[np.float64]) -> None:
    if len(spacing_mm) != 3 or not all(np.isfinite(mm) and mm > 0 for mm in spacing_mm):
        raise ValueError(f"Spacing must be three positive values in mm, got {spacing_mm}.")
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ValueError("The affine must be a finite 4 x 4 matrix.")

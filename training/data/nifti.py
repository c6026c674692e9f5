"""NIfTI files of CT to scans as DICOM would have given them.

A NIfTI file says where voxels lie, in millimetres towards right, anterior and superior; it says
nothing of the patient, the scanner or the meaning of its numbers (NIfTI-1 data format, 2007). So
the patient is read from the path, and numbers that cannot be HU are refused.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from man_core import Condition, Volume
from training.data.scan import Scan, UnusableScanError
from training.errors import TrainingError

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

SUFFIXES = (".nii.gz", ".nii")

PADDING_BELOW_HU = -1024.0
"""No tissue and no air lies below: what does was put there where the scanner had no data."""

AIR_BELOW_HU = -500.0
"""Every CT slice shows air somewhere; a file without a value below it holds no HU."""

MAX_HU = 32767.0
"""The sets keep 16 bits; metal ends far below."""

TISSUE_HU = (-200.0, 300.0)
MIN_TISSUE_SHARE = 0.01
"""At least so many voxels are fat or soft tissue; fewer show that an offset of HU is missing."""

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def find_nifti(folder: Path) -> list[tuple[Path, str]]:
    """NIfTI files below a folder, or one file, each with its patient.

    The patient is the first folder below the given one; of a file that lies in the given folder
    itself, it is the file's name without its ending.
    """
    if folder.is_file():
        return [(folder, _stem(folder))] if folder.name.endswith(SUFFIXES) else []
    files = sorted(path for path in folder.rglob("*") if path.name.endswith(SUFFIXES))
    parts = [(path, path.relative_to(folder).parts) for path in files if path.is_file()]
    return [(path, names[0] if len(names) > 1 else _stem(path)) for path, names in parts]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")


def read_nifti(path: Path, patient: str, name: str) -> Scan:
    """Read one file.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        patient: See ``find_nifti``.
        name: What to call the file in a sentence; its own name often is a patient's.

    Raises:
        UnusableScanError: It is damaged, its slices are not axial, or its numbers are not HU.
        TrainingError: nibabel is not installed.
    """
    image = _opened(path, name)
    stored, affine = _axial(image, name)
    _check_hu(stored, name)
    padding = stored < PADDING_BELOW_HU
    hu = np.maximum(stored, np.float32(PADDING_BELOW_HU))
    lengths = [float(np.linalg.norm(affine[:3, axis])) for axis in range(3)]
    return Scan(
        series=_identity(hu, affine),
        patient=patient,
        volume=Volume(hu, (lengths[0], lengths[1], lengths[2]), affine),
        padding=padding,
        condition=Condition(),
        positions_mm=_positions_mm(affine, len(hu)),
    )


def _opened(path: Path, name: str) -> Nifti1Image:
    try:
        import nibabel
    except ImportError as error:
        raise TrainingError(
            "NIfTI files need nibabel: install this package with its extra `train`"
        ) from error
    try:
        image = cast("Nifti1Image", nibabel.load(path))
    except Exception:  # torn bytes make its readers fail in any way
        raise UnusableScanError(f"{name} cannot be read as NIfTI") from None
    header = image.header
    if int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
        raise UnusableScanError(f"{name} does not say how the patient lies in it")
    if header.get_xyzt_units()[0] not in ("mm", "unknown"):
        raise UnusableScanError(f"{name} is not measured in millimetres")
    if header.get_data_dtype().kind not in "iuf":
        raise UnusableScanError(f"{name} holds colours or complex numbers, not HU")
    return image


def _axial(image: Nifti1Image, name: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Voxels [slice, row, column] as axial DICOM images have them, and their affine to LPS mm.

    Axes are flipped and swapped within the plane, never resampled.
    """
    from nibabel import orientations

    values, ways = _values(image, name), orientations.io_orientation(image.affine)
    if np.isnan(ways).any() or int(ways[2, 0]) != 2:
        raise UnusableScanError(
            f"{name} holds no axial slices: its third axis must run head to feet"
        )
    turn = orientations.ornt_transform(ways, orientations.axcodes2ornt(("L", "P", "S")))
    turned = orientations.apply_orientation(values, turn)
    affine = RAS_TO_LPS @ image.affine @ orientations.inv_ornt_aff(turn, values.shape)
    return np.ascontiguousarray(turned.transpose(2, 1, 0)), affine[:, [2, 1, 0, 3]]


def _values(image: Nifti1Image, name: str) -> NDArray[np.float32]:
    shape = image.shape
    if len(shape) < 3 or any(length != 1 for length in shape[3:]):
        raise UnusableScanError(f"{name} holds {len(shape)} axes: give one volume a file")
    try:
        values: NDArray[np.float32] = image.get_fdata(dtype=np.float32, caching="unchanged")
    except Exception:  # as above
        raise UnusableScanError(f"{name} is cut short or damaged") from None
    return values.reshape(shape[:3])


def _check_hu(values: NDArray[np.float32], name: str) -> None:
    if not np.isfinite(values).all():
        raise UnusableScanError(f"{name} holds values that are no numbers")
    low, high = float(values.min()), float(values.max())
    if low > AIR_BELOW_HU or high > MAX_HU:
        raise UnusableScanError(
            f"{name} holds values from {low:g} to {high:g}, which are no HU: air must lie near "
            "-1000; convert it again with rescale slope and intercept, and without a window"
        )
    tissue = (values > TISSUE_HU[0]) & (values < TISSUE_HU[1])
    if tissue.mean() < MIN_TISSUE_SHARE:
        raise UnusableScanError(
            f"{name} shows no tissue between {TISSUE_HU[0]:g} and {TISSUE_HU[1]:g} HU"
        )


def _positions_mm(affine: NDArray[np.float64], slices: int) -> tuple[float, ...]:
    """Places along the normal, as ``scan.slice_position_mm`` has them."""
    along_row, along_column = (affine[:3, axis] for axis in (2, 1))
    normal = np.cross(along_row, along_column)
    places = affine[:3, 3] + np.arange(slices)[:, None] * affine[:3, 0]
    return tuple(float(place) for place in places @ (normal / np.linalg.norm(normal)))


def _identity(hu: NDArray[np.float32], affine: NDArray[np.float64]) -> str:
    """The same for the same voxels at the same place, whatever the file is called."""
    digest = hashlib.sha256(np.rint(hu).astype(np.int16).tobytes())
    digest.update(np.rint(affine * 1e3).astype(np.int64).tobytes())
    return f"nifti-{digest.hexdigest()}"

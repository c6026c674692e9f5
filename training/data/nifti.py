"""Reading of CT in NIfTI files, with the same result as from DICOM.

A NIfTI file states the position of voxels, in millimetres towards right, anterior and superior, but
neither patient nor scanner nor the meaning of its values (NIfTI-1 data format, 2007). The patient
is therefore taken from the path, and values that cannot be HU are rejected.
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
"""Values below are padding: no tissue and no air has less."""

AIR_BELOW_HU = -500.0
"""Every CT slice shows air; a file without a value below this does not contain HU."""

MAX_HU = 32767.0
"""Maximum of the 16 bits of a training set; metal has far less."""

TISSUE_HU = (-200.0, 300.0)
MIN_TISSUE_SHARE = 0.01
"""Minimum share of voxels of fat or soft tissue; fewer indicate a missing offset of HU."""

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def find_nifti(folder: Path) -> list[tuple[Path, str]]:
    """Find NIfTI files below a folder, or one file, each with its patient.

    The patient is the first folder below the given one; for a file directly in the given folder, it
    is the file name without suffix.
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
        name: Name of the file in messages; the file name itself often identifies a patient.

    Raises:
        UnusableScanError: It is damaged, its slices are not axial, or its values are not HU.
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
            "NIfTI files need nibabel; install man-node with its extra `train`."
        ) from error
    try:
        image = cast("Nifti1Image", nibabel.load(path))
    except Exception:  # torn bytes make its readers fail in any way
        raise UnusableScanError(f"{name} cannot be read as NIfTI.") from None
    header = image.header
    if int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
        raise UnusableScanError(f"{name} does not state the orientation of the patient.")
    if header.get_xyzt_units()[0] not in ("mm", "unknown"):
        raise UnusableScanError(f"{name} is not measured in millimetres.")
    if header.get_data_dtype().kind not in "iuf":
        raise UnusableScanError(f"{name} contains colours or complex numbers, not HU.")
    return image


def _axial(image: Nifti1Image, name: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Orient voxels [slice, row, column] like axial DICOM images; return them and their affine.

    Axes are flipped and swapped within the plane, never resampled.
    """
    from nibabel import orientations

    values, ways = _values(image, name), orientations.io_orientation(image.affine)
    if np.isnan(ways).any() or int(ways[2, 0]) != 2:
        raise UnusableScanError(
            f"{name} contains no axial slices; its third axis must run between head and feet."
        )
    turn = orientations.ornt_transform(ways, orientations.axcodes2ornt(("L", "P", "S")))
    turned = orientations.apply_orientation(values, turn)
    affine = RAS_TO_LPS @ image.affine @ orientations.inv_ornt_aff(turn, values.shape)
    return np.ascontiguousarray(turned.transpose(2, 1, 0)), affine[:, [2, 1, 0, 3]]


def _values(image: Nifti1Image, name: str) -> NDArray[np.float32]:
    shape = image.shape
    if len(shape) < 3 or any(length != 1 for length in shape[3:]):
        raise UnusableScanError(f"{name} has {len(shape)} axes; provide one volume per file.")
    try:
        values: NDArray[np.float32] = image.get_fdata(dtype=np.float32, caching="unchanged")
    except Exception:  # as above
        raise UnusableScanError(f"{name} is truncated or damaged.") from None
    return values.reshape(shape[:3])


def _check_hu(values: NDArray[np.float32], name: str) -> None:
    if not np.isfinite(values).all():
        raise UnusableScanError(f"{name} contains values that are not finite.")
    low, high = float(values.min()), float(values.max())
    if low > AIR_BELOW_HU or high > MAX_HU:
        raise UnusableScanError(
            f"{name} contains values from {low:g} to {high:g}, which are not HU (air has about "
            "-1000); convert it again with rescale slope and intercept, and without a window."
        )
    tissue = (values > TISSUE_HU[0]) & (values < TISSUE_HU[1])
    if tissue.mean() < MIN_TISSUE_SHARE:
        raise UnusableScanError(
            f"{name} shows no tissue between {TISSUE_HU[0]:g} and {TISSUE_HU[1]:g} HU."
        )


def _positions_mm(affine: NDArray[np.float64], slices: int) -> tuple[float, ...]:
    """Compute positions along the normal, as ``scan.slice_position_mm`` does."""
    along_row, along_column = (affine[:3, axis] for axis in (2, 1))
    normal = np.cross(along_row, along_column)
    places = affine[:3, 3] + np.arange(slices)[:, None] * affine[:3, 0]
    return tuple(float(place) for place in places @ (normal / np.linalg.norm(normal)))


def _identity(hu: NDArray[np.float32], affine: NDArray[np.float64]) -> str:
    """Identify a series by voxels and position, independent of the file name."""
    digest = hashlib.sha256(np.rint(hu).astype(np.int16).tobytes())
    digest.update(np.rint(affine * 1e3).astype(np.int64).tobytes())
    return f"nifti-{digest.hexdigest()}"

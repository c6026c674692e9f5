"""Small CT Image series for tests, valid under dciodvfy unless a test asks for trouble.

``make_series(folder)`` writes an ellipse of soft tissue in air. Every option has a default;
``change`` is called with each data set before it is written, for whatever has no option.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.ct.files import file_meta_for, write_file
from dicom_node.ct.pixels import Encoding
from dicom_node.ct.scan import Scan, scan_datasets
from man_core import Volume

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ORIGINAL_AXIAL = ("ORIGINAL", "PRIMARY", "AXIAL")


def make_series(
    folder: Path,
    slices: int = 4,
    size: int = 64,
    *,
    hu: NDArray[np.floating] | None = None,
    spacing_mm: tuple[float, float, float] = (2.5, 0.8, 0.7),
    orientation: Sequence[float] = AXIAL,
    slope: float = 1.0,
    intercept: float = -1024.0,
    bits: int = 12,
    signed: bool = False,
    padding: int | None = None,
    patient_name: str = "PHANTOM^TEST",
    patient_id: str = "PHANTOM-TEST",
    study: str = "test",
    description: str = "Phantom",
    series_number: int = 1,
    modality: str = "CT",
    image_type: Sequence[str] = ORIGINAL_AXIAL,
    noise_hu: float = 20.0,
    seed: int = 0,
    change: Callable[[Dataset], None] | None = None,
) -> list[Path]:
    """Write a series and give its files in slice order.

    Args:
        folder: Made when it is missing.
        slices: Number of slices, unless ``hu`` is given.
        size: Rows and columns, unless ``hu`` is given.
        hu: Voxels [slice, row, column] to write.
        padding: Pixel Padding Value; pixels outside of the inscribed circle are set to it.
        change: Called with each data set before it is written.
    """
    voxels = ellipse(slices, size, noise_hu, seed) if hu is None else np.asarray(hu, np.float32)
    limits = None if padding is None else (padding, padding)
    scan = Scan(
        patient_name=patient_name,
        patient_id=patient_id,
        study=study,
        description=description,
        series_number=series_number,
        encoding=Encoding(slope, intercept, bits, signed, limits),
    )
    outside = np.broadcast_to(outside_circle(*voxels.shape[1:]), voxels.shape)
    volume = Volume(voxels, spacing_mm, affine_of(spacing_mm, orientation))
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for dataset in scan_datasets(volume, scan, padding=outside):
        dataset.Modality, dataset.ImageType = modality, list(image_type)
        if change is not None:
            change(dataset)
        paths.append(folder / f"{len(paths) + 1:04d}.dcm")
        rewrite(dataset, paths[-1])
    return paths


def rewrite(dataset: Dataset, path: Path) -> Path:
    """Write a data set uncompressed, with file meta information made afresh."""
    dataset.file_meta = file_meta_for(dataset)
    write_file(dataset, path)
    return path


def change_header(path: Path, **attributes: object) -> None:
    """Set attributes, by keyword, in the header of a file."""
    dataset = pydicom.dcmread(path)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    rewrite(dataset, path)


def ellipse(slices: int, size: int, noise_hu: float = 20.0, seed: int = 0) -> NDArray[np.float32]:
    """HU [slice, row, column]: soft tissue (40), a fat ring (-90), air (-1000), and white noise."""
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    radius = np.hypot(rows / 0.7, columns / 0.85)
    flat = np.select([radius < 0.85, radius < 1.0], [40.0, -90.0], -1000.0)
    noise = np.random.default_rng(seed).normal(0, noise_hu, (slices, size, size))
    return np.maximum(flat + noise, -1024.0).astype(np.float32)


def outside_circle(rows: int, columns: int) -> NDArray[np.bool_]:
    """[row, column]: outside of the circle that touches the image's edges."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    return np.hypot(x, y) > 1.0


def affine_of(
    spacing_mm: tuple[float, float, float], orientation: Sequence[float] = AXIAL
) -> NDArray[np.float64]:
    """Index (slice, row, column, 1) to LPS mm for an orientation as DICOM gives it."""
    along_row, along_column = np.reshape(np.asarray(orientation, np.float64), (2, 3))
    affine = np.eye(4)
    affine[:3, 0] = np.cross(along_row, along_column) * spacing_mm[0]
    affine[:3, 1] = along_column * spacing_mm[1]
    affine[:3, 2] = along_row * spacing_mm[2]
    affine[:3, 3] = (-20.0, -25.0, -50.0)
    return affine

"""Read the files of a CT series into HU; the only place where DICOM becomes a Volume.

A gap in a series is an error (``ct/slices/gaps.py``); changes of spacing are the scanner's own and
accepted. A series without a usual distance is a sample of slices, which is accepted too and handled
slice by slice. Localizers among other images are left out, with a remark. Several images at one
position are accepted where they are phases (``ct/slices/phases.py``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.ct import headers
from dicom_node.ct.attributes import number, numbers, texts
from dicom_node.ct.conversion.pool import CONVERTERS
from dicom_node.ct.folder import find_series, scan_folder
from dicom_node.ct.patient import check_one_patient
from dicom_node.ct.scope import localizer_remark, without_localizers
from dicom_node.ct.series import CtSeries
from dicom_node.ct.shared_elements import SharedElements
from dicom_node.ct.slices import geometry
from dicom_node.ct.slices.gaps import Gap, find_gaps
from dicom_node.ct.slices.neighbours import neighbours_among, neighbours_by_image
from dicom_node.ct.slices.phases import phases_of
from dicom_node.ct.stack import BYTES_PER_VOXEL, CtStack
from dicom_node.ct.units import unspecified_remark
from dicom_node.errors import IncompleteSeries, InputError, UnreadableFile
from dicom_node.memory import header_bytes, memory_limited
from man_core import Volume

__all__ = ["CtSeries", "find_series", "open_series", "read_series", "scan_folder"]

_SHARED: Final = {
    "SeriesInstanceUID": "several series",
    "StudyInstanceUID": "several studies",
    "FrameOfReferenceUID": "several frames of reference",
    "Rows": "images of several sizes",
    "Columns": "images of several sizes",
}
"""Attributes that all images of a series share, with the description of a violation."""

_NONE_KNOWN: Final[Mapping[Path, Dataset]] = MappingProxyType({})

FALLBACK_SPACING_MM: Final = 1.0
"""Slice spacing of a single image that states no thickness."""


def read_series(
    paths: Sequence[Path],
    *,
    contiguous: bool = True,
    only: Collection[Path] | None = None,
) -> CtSeries:
    """Read the files of one series into HU.

    Args:
        paths: The files, in any order.
        contiguous: Refuse a regular series with a gap; False takes slices wherever they lie.
        only: The files whose pixels are wanted; the others only serve to check that all belong
            together. None: all.

    Returns:
        The series, or the part of it that was asked for.

    Raises:
        InputError: One sentence; ``NotForUs``, ``UnreadableFile``, ``IncompleteSeries`` say more.
    """
    stack = open_series(paths, contiguous=contiguous, only=only)
    hu, padding = _read_voxels(stack)
    return CtSeries(
        volume=Volume(hu, stack.spacing_mm, stack.affine),
        condition=stack.condition,
        headers=stack.headers,
        padding=padding,
        files=stack.files,
        regular=stack.regular,
        remarks=stack.remarks,
    )


def open_series(
    paths: Sequence[Path],
    *,
    contiguous: bool = True,
    only: Collection[Path] | None = None,
    known: Mapping[Path, Dataset] = _NONE_KNOWN,
) -> CtStack:
    """Read and check the headers of one series; its slices can then be read one at a time.

    Args:
        paths: The files, in any order.
        contiguous: See :func:`read_series`.
        only: See :func:`read_series`.
        known: Headers of files that have been loaded already (``headers.load``).

    Raises:
        InputError: As :func:`read_series`, but for what only the pixels show.
    """
    images, localizers = _load_headers(paths, known)
    whole = _stack(images, contiguous=contiguous)
    stack = whole if only is None else _part(whole, images, only)
    ordered = [images[index] for index in stack.order]
    neighbours, seen = neighbours_among(_neighbours(images), stack.order)
    ordered_headers = tuple(image.header for image in ordered)
    remarks = unspecified_remark(ordered_headers), localizer_remark(localizers)
    return CtStack(
        spacing_mm=stack.spacing_mm,
        affine=stack.affine,
        condition=headers.condition_of([images[index].header for index in whole.order]),
        headers=ordered_headers,
        files=tuple(image.path for image in ordered),
        regular=stack.regular,
        remarks=tuple(remark for remark in remarks if remark),
        neighbours=neighbours,
        seen=tuple((images[index].header, images[index].path) for index in seen),
    )


@dataclass(frozen=True, eq=False)
class _Image:
    """One file with its header, without pixel data."""

    path: Path
    header: Dataset

    @property
    def name(self) -> str:
        return headers.image_name(self.header, self.path)


def _load_headers(paths: Sequence[Path], known: Mapping[Path, Dataset]) -> tuple[list[_Image], int]:
    """Load and check the headers of a series.

    Returns:
        Its images without localizers, and the number of localizers that were left out.
    """
    if not paths:
        raise InputError("There are no files to read: give at least one CT image.")
    shared = SharedElements()
    with _bounded(header_bytes(len(paths))):
        loaded = [
            _Image(Path(path), known.get(path) or shared.header(headers.load(path, pixels=False)))
            for path in paths
        ]
    images = [loaded[index] for index in without_localizers([image.header for image in loaded])]
    for image in images:
        headers.check(image.header, image.name)
    check_one_patient([image.header for image in loaded])
    return images, len(loaded) - len(images)


@contextmanager
def _bounded(further_bytes: int) -> Iterator[None]:
    """Limit further memory; a series that needs more is not what its headers claim."""
    try:
        with memory_limited(further_bytes):
            yield
    except MemoryError as error:
        raise UnreadableFile(
            "Reading the series takes more memory than a series of so many images of this size "
            f"needs ({further_bytes >> 20} MiB): send it again, or give the machine more memory."
        ) from error


def _voxel_bytes(stack: CtStack) -> int:
    """Memory for the voxels of a series."""
    slices, rows, columns = stack.shape
    return header_bytes(slices) + slices * rows * columns * BYTES_PER_VOXEL


def _stack(images: Sequence[_Image], *, contiguous: bool) -> geometry.Stack:
    loaded = [image.header for image in images]
    _check_alike(loaded)
    orientation = numbers(loaded[0], "ImageOrientationPatient")
    positions = _table(loaded, "ImagePositionPatient")
    try:
        places = geometry.places_along(positions, orientation)
    except ValueError as error:
        raise UnreadableFile(f"The ImageOrientationPatient is not usable: {error}.") from error
    if phases_of(loaded, places) is None:
        _refuse_copies(places, images)
    gaps = find_gaps(loaded, places).found
    if contiguous and gaps:
        raise _gap_error(gaps, images)
    return _sorted(loaded)


def _neighbours(images: Sequence[_Image]) -> dict[int, tuple[int, int]]:
    """Return the images below and above each one; see ``neighbours_by_image``."""
    loaded = [image.header for image in images]
    orientation = numbers(loaded[0], "ImageOrientationPatient")
    places = geometry.places_along(_table(loaded, "ImagePositionPatient"), orientation)
    return neighbours_by_image(loaded, places)


def _part(
    whole: geometry.Stack, images: Sequence[_Image], only: Collection[Path]
) -> geometry.Stack:
    """The wanted slices as a stack of their own; its order still indexes the files as given."""
    wanted = [index for index in whole.order if images[index].path in only]
    if not wanted:
        raise InputError("None of the images to be read belongs to the series.")
    stack = _sorted([images[index].header for index in wanted])
    return replace(stack, order=tuple(wanted[index] for index in stack.order))


def _sorted(loaded: Sequence[Dataset]) -> geometry.Stack:
    return geometry.stack(
        _table(loaded, "ImagePositionPatient"),
        numbers(loaded[0], "ImageOrientationPatient"),
        _pixel_spacing(loaded[0]),
        number(loaded[0], "SliceThickness") or FALLBACK_SPACING_MM,
    )


def _check_alike(loaded: Sequence[Dataset]) -> None:
    for keyword, several in _SHARED.items():
        if len({tuple(texts(header, keyword)) for header in loaded}) > 1:
            raise InputError(f"The files hold {several}: give the images of one series at a time.")
    orientations = _table(loaded, "ImageOrientationPatient")
    if np.ptp(orientations, axis=0).max() > geometry.DIRECTION_TOLERANCE:
        raise InputError(
            "The series holds images of two or more orientations: split it into one series each."
        )
    spacings = _table(loaded, "PixelSpacing")
    if np.ptp(spacings, axis=0).max() > geometry.DIRECTION_TOLERANCE:
        raise InputError(
            "The series holds images of several pixel spacings: split it into one series each."
        )


def _refuse_copies(places: NDArray[np.float64], images: Sequence[_Image]) -> None:
    order = np.argsort(places, kind="stable")
    for first, second in pairwise(order):
        if places[second] - places[first] <= geometry.POSITION_TOLERANCE_MM:
            names = [images[index].name for index in sorted((first, second))]
            raise InputError(
                f"{names[0]} and {names[1]} lie at the same position, and no acquisition, phase or "
                "time in their headers tells them apart: remove copies, and send a series of "
                "several phases as one series each."
            )


def _gap_error(gaps: Sequence[Gap], images: Sequence[_Image]) -> IncompleteSeries:
    gap = gaps[0]
    missing = sum(one.missing for one in gaps)
    slices = "1 slice is" if missing == 1 else f"{missing} slices are"
    return IncompleteSeries(
        f"{slices} missing: {images[gap.before].name} and {images[gap.after].name} lie "
        f"{gap.distance_mm:g} mm apart where there is a slice every {gap.usual_mm:g} mm; send the "
        "complete series again."
    )


def _read_voxels(stack: CtStack) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    with _bounded(_voxel_bytes(stack)):
        hu, padding = np.empty(stack.shape, np.float32), np.empty(stack.shape, np.bool_)
    for index in range(len(hu)):
        found = CONVERTERS.read(stack.file(index))
        hu[index], padding[index] = found.hu, found.padding
    return hu, padding


def _pixel_spacing(header: Dataset) -> tuple[float, float]:
    rows, columns = numbers(header, "PixelSpacing")
    return rows, columns


def _table(loaded: Sequence[Dataset], keyword: str) -> NDArray[np.float64]:
    """An attribute's numbers [slice, value]; their count has been checked."""
    return np.array([numbers(header, keyword) for header in loaded], dtype=np.float64)

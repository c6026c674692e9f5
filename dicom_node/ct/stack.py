"""A CT series known by its headers, and its slices, which are read one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset, Sequence

from dicom_node.ct import headers, pixels
from dicom_node.ct.attributes import texts
from dicom_node.ct.patient import identity_of
from dicom_node.ct.units import check_unspecified
from dicom_node.errors import UnreadableFile
from man_core import Condition

BYTES_PER_VOXEL: Final = 7
"""Memory for a stored word, a padding flag and HU in single precision."""

SLICE_BYTES_PER_PIXEL: Final = 64
"""Memory for decoding one slice, in double precision and several copies."""

MAX_KEPT_HEADER_BYTES: Final = 1 << 20
"""Memory of a header that is kept until its slice is written; a larger one is read again then, so
that the slices that wait take bounded memory. Headers of ordinary images take some 50 KiB."""

_ELEMENT_BYTES: Final = 400
"""Memory of an element beside its value."""

_DATA_SET_BYTES: Final = 2000
"""Memory of a data set, or of an item of a sequence, beside its elements."""

_UNCHANGED: Final = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "InstanceNumber",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
)
"""Attributes that were checked or used in the first reading, beside the patient's."""

_PIXEL_DATA: Final = 0x7FE0_0010
_IMAGE_PIXEL_GROUP: Final = 0x0028


@dataclass(frozen=True, eq=False)
class CtSlice:
    """One slice of a series.

    Attributes:
        read_header: Returns all public elements of the file but the pixel data.
        stored: Stored words [row, column], int16 or uint16.
        padding: [row, column], True where the scanner had no data.
        hu: [row, column]; padding is air.
    """

    read_header: Callable[[], Dataset]
    stored: NDArray[Any]
    padding: NDArray[np.bool_]
    hu: NDArray[np.float32]

    @property
    def header(self) -> Dataset:
        """All public elements of the file but the pixel data; a large one is read again.

        Raises:
            UnreadableFile: The file is no longer the one that was read.
            InputError: It is not there, or may not be opened.
            StorageError: The disk, or the system, cannot read it now.
        """
        return self.read_header()


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

    def read(self, index: int) -> CtSlice:
        """Read and decode a slice; may be called in several threads.

        Header and pixel data come from one reading of the file.

        Raises:
            UnreadableFile: The file is damaged, cannot be decoded, or is no longer the one whose
                header is known.
            NotForUs: Its values are not in HU.
            InputError: It is not there, or may not be opened.
            StorageError: The disk, or the system, cannot read it now.
        """
        known, path = self.headers[index], self.files[index]
        name, image = headers.image_name(known, path), headers.load_image(path)
        stored = pixels.decode(_image_pixels(image), name)
        if not _is_unchanged(known, image) or stored.shape != self.shape[1:]:
            raise _changed(name)
        encoding = pixels.Encoding.of(known)
        padding = pixels.padding_mask(stored, encoding)
        hu = pixels.to_hu(stored, encoding, padding)
        if not np.isfinite(hu).all():
            raise UnreadableFile(f"{name} has pixel values beyond any HU: send it again.")
        check_unspecified(known, hu, padding)
        kept = _memory_of(image) <= MAX_KEPT_HEADER_BYTES
        again = partial(self._read_header, index)
        return CtSlice((lambda: image) if kept else again, stored, padding, hu)

    def _read_header(self, index: int) -> Dataset:
        known, path = self.headers[index], self.files[index]
        header = headers.load_whole(path)
        if not _is_unchanged(known, header):
            raise _changed(headers.image_name(known, path))
        return header


def _changed(name: str) -> UnreadableFile:
    return UnreadableFile(f"{name} has changed while its series was read: try again.")


def _memory_of(header: Dataset) -> int:
    """Estimate the memory of a header; sequences of defined length are bytes in it."""
    size = _DATA_SET_BYTES + _ELEMENT_BYTES * len(header)
    for tag in header.keys():  # noqa: SIM118 - values would be converted
        value = header.get_item(tag).value
        if isinstance(value, Sequence):
            size += sum(_memory_of(item) for item in value)
        elif isinstance(value, bytes | str):
            size += len(value)
    return size


def _is_unchanged(known: Dataset, image: Dataset) -> bool:
    """Return whether a file still holds the image whose header is known."""
    found = image[:]  # a copy, since a derived image wants the bytes that the file has
    return identity_of(found) == identity_of(known) and all(
        texts(found, keyword) == texts(known, keyword) for keyword in _UNCHANGED
    )


def _image_pixels(image: FileDataset) -> Dataset:
    """Move the pixel data, with a copy of what describes them, out of an image.

    Decoding converts the elements that it looks at, whereas a derived image wants their bytes.
    """
    described = image.group_dataset(_IMAGE_PIXEL_GROUP)
    if _PIXEL_DATA in image:
        described[_PIXEL_DATA] = image.get_item(_PIXEL_DATA)
        del image[_PIXEL_DATA]
    described.file_meta = image.file_meta
    return described

"""One image of a series: the file, what is known of it, and everything that is read from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset, Sequence

from dicom_node.ct import headers, pixels
from dicom_node.ct.conversion.limits import decoding_limited, parsing_bytes
from dicom_node.ct.decoding import decode
from dicom_node.ct.fingerprint import fingerprint_of
from dicom_node.ct.units import check_unspecified
from dicom_node.errors import UnreadableFile
from dicom_node.memory import memory_limited

DIGEST_BYTES: Final = 32

_ELEMENT_BYTES: Final = 400
"""Memory of an element beside its value."""

_DATA_SET_BYTES: Final = 2000
"""Memory of a data set, or of an item of a sequence, beside its elements."""

_PIXEL_DATA: Final = 0x7FE0_0010
_IMAGE_PIXEL_GROUP: Final = 0x0028


@dataclass(frozen=True)
class ImageFile:
    """The file of an image whose header is known.

    Attributes:
        path: The file.
        name: Name of the image in messages.
        rows: Number of rows.
        columns: Number of columns.
        fingerprint: ``fingerprint_of`` its header.
    """

    path: Path
    name: str
    rows: int
    columns: int
    fingerprint: str

    @classmethod
    def of(cls, header: Dataset, path: Path) -> ImageFile:
        """Describe a file by its header, which has been checked (``headers.check``)."""
        name = headers.image_name(header, path)
        return cls(
            path.absolute(), name, int(header.Rows), int(header.Columns), fingerprint_of(header)
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Number of (rows, columns)."""
        return self.rows, self.columns

    def changed(self) -> UnreadableFile:
        """Return the error for a file that is no longer the one whose header is known."""
        return UnreadableFile(f"{self.name} has changed while its series was read: try again.")


@dataclass(frozen=True, eq=False)
class CtSlice:
    """Source of a derived image.

    Attributes:
        header: All public elements of the file but the pixel data.
        stored: Stored words [row, column], int16 or uint16.
        padding: [row, column], True where the scanner had no data.
    """

    header: Dataset
    stored: NDArray[Any]
    padding: NDArray[np.bool_]

    @cached_property
    def digest(self) -> bytes:
        """Hash of the stored words, ``DIGEST_BYTES`` long."""
        return hashlib.sha256(np.ascontiguousarray(self.stored).data).digest()

    @cached_property
    def kept_bytes(self) -> int:
        """Memory of header, stored words and padding."""
        return memory_of(self.header) + self.stored.nbytes + self.padding.nbytes


def read_slice(file: ImageFile) -> tuple[CtSlice, NDArray[np.float32]]:
    """Read and decode a slice in this process, within limits; header and pixels in one reading.

    Returns:
        The slice, and its HU [row, column]; padding is air.

    Raises:
        UnreadableFile: The file is damaged, cannot be decoded, takes more memory than an image of
            its size may, or is no longer the one whose header is known.
        NotForUs: Its values are not in HU.
        InputError: It is not there, or may not be opened.
        StorageError: The disk, or the system, cannot read it now.
    """
    image = _load(file)
    described = _image_pixels(image)
    if fingerprint_of(image) != file.fingerprint and "PixelData" in described:
        raise file.changed()  # one without pixels is cut off
    stored = _decode(described, file)
    if stored.shape != file.shape:
        raise file.changed()
    encoding = pixels.Encoding.of(described)
    padding = pixels.padding_mask(stored, encoding)
    hu = pixels.to_hu(stored, encoding, padding)
    if not np.isfinite(hu).all():
        raise UnreadableFile(f"{file.name} has pixel values beyond any HU: send it again.")
    check_unspecified(described, hu, padding)
    return CtSlice(image, stored, padding), hu


def memory_of(header: Dataset) -> int:
    """Estimate the memory of a header; sequences of defined length are bytes in it."""
    size = _DATA_SET_BYTES + _ELEMENT_BYTES * len(header)
    for tag in header.keys():  # noqa: SIM118 - values would be converted
        value = header.get_item(tag).value
        if isinstance(value, Sequence):
            size += sum(memory_of(item) for item in value)
        elif isinstance(value, bytes | str):
            size += len(value)
    return size


def _load(file: ImageFile) -> FileDataset:
    try:
        with memory_limited(parsing_bytes(file.rows, file.columns)):
            return headers.load_image(file.path)
    except MemoryError as error:
        raise UnreadableFile(
            f"{file.path.name} is refused: reading it takes more memory than an image of its size"
            " needs."
        ) from error


def _decode(described: Dataset, file: ImageFile) -> NDArray[Any]:
    encoded_bytes = len(described.get("PixelData") or b"")
    try:
        with decoding_limited(file.rows, file.columns, encoded_bytes):
            return decode(described, file.name)
    except MemoryError as error:
        raise UnreadableFile(
            f"{file.name} cannot be decoded: decoding takes more memory than an image of its size"
            " needs: send it again."
        ) from error


def _image_pixels(image: FileDataset) -> Dataset:
    """Move the pixel data, with a copy of all elements that describe them, out of an image.

    Decoding converts the elements that it looks at, whereas a derived image wants their bytes.
    """
    described = image.group_dataset(_IMAGE_PIXEL_GROUP)
    if _PIXEL_DATA in image:
        described[_PIXEL_DATA] = image.get_item(_PIXEL_DATA)
        del image[_PIXEL_DATA]
    described.file_meta = image.file_meta
    return described

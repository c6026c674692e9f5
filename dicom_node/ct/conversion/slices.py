"""Work of a converter process: slices read, kept until they are derived, and written."""

from __future__ import annotations

import os
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from dicom_node.ct.conversion.limits import MAX_KEPT_BYTES
from dicom_node.ct.conversion.messages import Derive, Object, Read
from dicom_node.ct.derived.image import add_guard_objections, derive_image
from dicom_node.ct.files import read_back, write_file
from dicom_node.ct.headers import load_whole
from dicom_node.ct.image_file import CtSlice, read_slice
from dicom_node.errors import UnreadableFile

NOT_KEPT: Final = 0
"""Ticket of a slice that nobody will derive."""


class Slices:
    """Slices of this process by their tickets.

    What is kept saves a second reading. A slice that would exceed the bound is not kept, rather
    than an earlier one forgotten: slices are derived in the order in which they are read.

    Args:
        max_bytes: Memory for headers, stored words and padding.
    """

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._room = max_bytes
        self._kept: dict[int, CtSlice] = {}

    def read(self, request: Read) -> tuple[CtSlice, NDArray[np.float32]]:
        """Read a slice, and keep it if there is room; return it with its HU [row, column].

        Raises:
            InputError: As ``read_slice``.
            StorageError: As ``read_slice``.
        """
        found, hu = read_slice(request.file)
        if request.ticket != NOT_KEPT and found.kept_bytes <= self._room:
            self._room -= found.kept_bytes
            self._kept[request.ticket] = found
        return found, hu

    def release(self, ticket: int) -> CtSlice | None:
        """Return a slice if it is kept, and keep it no longer."""
        found = self._kept.pop(ticket, None)
        if found is not None:
            self._room += found.kept_bytes
        return found

    def derive(self, request: Derive, hu: NDArray[np.float32]) -> None:
        """Write the derived image of a slice, which is read again if it is not kept.

        Raises:
            UnreadableFile: The source is no longer what was denoised, or its header cannot be
                written.
            InputError: As ``read_slice``.
            StorageError: The disk is full, or the folder not writable.
        """
        source = self.release(request.ticket) or read_slice(request.file)[0]
        if source.digest.hex() != request.digest:
            raise request.file.changed()
        labels = request.labels
        image = derive_image(
            source,
            hu,
            labels.provenance,
            labels.options,
            missing=labels.missing,
            beside=request.beside,
        )
        os.umask(labels.umask)
        write_file(image, request.target)


def object_to(request: Object) -> None:
    """Write the guard's objections into a derived image.

    Raises:
        UnreadableFile: The source has changed, or its header cannot be written.
        StorageError: The disk is full, or the folder not writable.
    """
    labels, source = request.labels, request.file.path
    image, header = read_back(request.target), load_whole(source)
    if header.get("SOPInstanceUID") != _source_uid(image):
        raise UnreadableFile(f"{source.name} has changed while its series was read: try again.")
    add_guard_objections(image, header, labels.provenance, labels.missing, request.flagged)
    os.umask(labels.umask)
    write_file(image, request.target)


def _source_uid(derived: Dataset) -> str:
    return str(derived.SourceImageSequence[0].ReferencedSOPInstanceUID)

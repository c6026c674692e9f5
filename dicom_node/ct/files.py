"""Data sets to files that survive a power failure."""

from __future__ import annotations

import os
from pathlib import Path

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.ct.product import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.errors import StorageError


def file_meta_for(dataset: Dataset) -> FileMetaDataset:
    """File Meta Information (PS3.10 7.1) of a data set that this product writes uncompressed."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def write_file(dataset: Dataset, path: Path) -> None:
    """Write a data set with its file meta information; whole and on disk, or not there at all.

    Raises:
        StorageError: The disk is full or the folder not writable.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            dcmwrite(file, dataset, enforce_file_format=True)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        why = error.strerror or "write error"
        raise StorageError(f"{path} cannot be written: {why}") from error


def sync_folder(folder: Path) -> None:
    """Make the names of the files in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Data sets written as DICOM files (PS3.10); durability is the outbox's concern."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Final

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.ct.headers import load
from dicom_node.encoding.preamble import PREAMBLE, begins_with_meta
from dicom_node.errors import StorageError, UnreadableFile
from dicom_node.product import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

OWNER_ONLY: Final = 0o077

_STATUS: Final = Path("/proc/self/status")


def file_meta_for(dataset: Dataset) -> FileMetaDataset:
    """Return File Meta Information (PS3.10 7.1) for a data set that is written uncompressed."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def read_back(path: Path) -> Dataset:
    """Read a complete file that :func:`write_file` has written.

    Raises:
        StorageError: It cannot be read.
    """
    try:
        return dcmread(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or 'read error'}.") from error


def encode(dataset: Dataset) -> bytes:
    """Encode a data set with its file meta information as the bytes of a file.

    Raises:
        UnreadableFile: A value taken over from a source cannot be encoded.
    """
    buffer = BytesIO()
    try:
        dcmwrite(buffer, dataset, enforce_file_format=True)
    except Exception as error:  # a value of a wrong type breaks its encoder in any way
        raise UnreadableFile(
            f"The header of image {dataset.get('InstanceNumber')} holds a value that cannot be "
            "written, such as text outside its character set: correct it and send it again."
        ) from error
    return buffer.getvalue()


def with_preamble(path: Path) -> bytes:
    """Return the bytes of a file without preamble, completed to a file of PS3.10, section 7.1.

    The data set is not encoded anew; missing file meta information is added.

    Raises:
        InputError: It is no DICOM file, damaged, or cannot be opened.
    """
    header, data = load(path, pixels=False), path.read_bytes()
    if begins_with_meta(data):
        return PREAMBLE + data
    meta = file_meta_for(header)
    meta.TransferSyntaxUID = header.file_meta.TransferSyntaxUID
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta)
    return PREAMBLE + buffer.getvalue() + data


def umask() -> int:
    """Return the permissions that new files of this process do not get.

    Asking the kernel changes nothing, whereas ``os.umask`` would, for all threads.
    """
    try:
        rows = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        rows = []
    return next((int(row.split()[1], 8) for row in rows if row.startswith("Umask:")), OWNER_ONLY)


def write_file(dataset: Dataset, path: Path) -> None:
    """Write a data set with its file meta information; the file is complete or absent.

    Raises:
        UnreadableFile: A value taken over from a source cannot be encoded.
        StorageError: The disk is full or the folder not writable.
    """
    data = encode(dataset)
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        why = error.strerror or "write error"
        raise StorageError(f"{path} cannot be written: {why}.") from error

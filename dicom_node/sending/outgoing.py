"""Files to be sent: their SOP class, instance and transfer syntax, and their data set as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom.dsutils import encode, split_dataset

from dicom_node.errors import UnreadableFile


@dataclass(frozen=True)
class OutgoingFile:
    """A DICOM file to be sent.

    Attributes:
        offset: Offset of its data set in bytes.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    offset: int

    def data_set(self) -> memoryview:
        """Read the data set unchanged.

        A deflated one of odd length gets the null byte that makes it even (PS3.5, A.5).

        Raises:
            UnreadableFile: The file is missing.
        """
        try:
            data = memoryview(self.path.read_bytes())[self.offset :]
        except OSError as error:
            raise _unreadable(self.path) from error
        if len(data) % 2 and self.transfer_syntax == DeflatedExplicitVRLittleEndian:
            return memoryview(bytes(data) + b"\0")
        return data

    def data_set_as_implicit(self) -> bytes:
        """Read the data set and encode it in Implicit VR Little Endian.

        Raises:
            UnreadableFile: It cannot be read.
        """
        try:
            encoded = encode(dcmread(self.path), is_implicit_vr=True, is_little_endian=True)
        except (OSError, InvalidDicomError, AttributeError, EOFError, ValueError) as error:
            raise _unreadable(self.path) from error
        if encoded is None:
            raise _unreadable(self.path)
        return encoded


def describe_file(path: Path) -> OutgoingFile:
    """Read a file's File Meta Information.

    Raises:
        UnreadableFile: It is not a DICOM file.
    """
    try:
        meta, offset = split_dataset(path)
        return OutgoingFile(
            path=path,
            sop_class_uid=str(meta.MediaStorageSOPClassUID),
            sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
            transfer_syntax=str(meta.TransferSyntaxUID),
            offset=offset,
        )
    except (OSError, InvalidDicomError, AttributeError, EOFError, ValueError) as error:
        raise _unreadable(path) from error


def kinds(files: Sequence[OutgoingFile]) -> list[tuple[str, str]]:
    """SOP class and transfer syntax of each file."""
    return [(file.sop_class_uid, file.transfer_syntax) for file in files]


def _unreadable(path: Path) -> UnreadableFile:
    return UnreadableFile(
        f"{path.name} cannot be sent: it is not a DICOM file with complete File Meta Information."
    )

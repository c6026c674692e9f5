"""What the receiver must know of an image before it may answer: a few header tags, never pixels."""

from __future__ import annotations

from io import BytesIO

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from dicom_node.errors import InputError, UnreadableFile

NEEDED_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
"""Without these an image cannot be kept or found again."""


class WrongInstance(InputError):  # noqa: N818 - the name says what was sent
    """The data set is not the instance that the C-STORE request announced."""


def read_header(encoded: bytes) -> Dataset:
    """Read a file's header, up to the pixels.

    Args:
        encoded: A whole DICOM file.

    Returns:
        The header, in which `NEEDED_UIDS` are there and are UIDs.

    Raises:
        UnreadableFile: It is not DICOM, or a UID is missing or malformed.
    """
    try:
        header = dcmread(BytesIO(encoded), stop_before_pixels=True)
        for keyword in NEEDED_UIDS:
            uid = header.get(keyword)
            if not isinstance(uid, UID) or not uid.is_valid:
                raise UnreadableFile(f"The data set has no usable {keyword}.")
    except UnreadableFile:
        raise
    except (InvalidDicomError, AttributeError, EOFError, KeyError, OSError, TypeError) as error:
        raise UnreadableFile("The data set cannot be read as DICOM.") from error
    except (ValueError, NotImplementedError, RuntimeError) as error:
        raise UnreadableFile("The data set's header is damaged.") from error
    return header


def check_announced(header: Dataset, *, sop_class_uid: str, sop_instance_uid: str) -> None:
    """See that a data set is what its C-STORE request announced (PS3.4, B.2.3: status A9xx).

    Raises:
        WrongInstance: SOP class or SOP instance differ.
    """
    if header.SOPClassUID != sop_class_uid:
        raise WrongInstance("The data set is of another SOP class than the request announced.")
    if header.SOPInstanceUID != sop_instance_uid:
        raise WrongInstance("The data set is another SOP instance than the request announced.")

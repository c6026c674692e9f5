"""Fingerprint of a header, by which a later reading of the file tells whether it has changed."""

from __future__ import annotations

import hashlib
from typing import Final

from pydicom import Dataset

from dicom_node.canonical import canonical_json
from dicom_node.ct.attributes import texts
from dicom_node.ct.patient import PATIENT_GROUP, identity_of

_CHARACTER_SET: Final = 0x0008_0005

_COMPARED: Final = {
    "SOPClassUID": 0x0008_0016,
    "SOPInstanceUID": 0x0008_0018,
    "StudyInstanceUID": 0x0020_000D,
    "SeriesInstanceUID": 0x0020_000E,
    "FrameOfReferenceUID": 0x0020_0052,
    "InstanceNumber": 0x0020_0013,
    "ImageType": 0x0008_0008,
    "ImagePositionPatient": 0x0020_0032,
    "ImageOrientationPatient": 0x0020_0037,
    "PixelSpacing": 0x0028_0030,
    "Rows": 0x0028_0010,
    "Columns": 0x0028_0011,
    "BitsAllocated": 0x0028_0100,
    "BitsStored": 0x0028_0101,
    "HighBit": 0x0028_0102,
    "PixelRepresentation": 0x0028_0103,
    "RescaleSlope": 0x0028_1053,
    "RescaleIntercept": 0x0028_1052,
    "RescaleType": 0x0028_1054,
    "PixelPaddingValue": 0x0028_0120,
    "PixelPaddingRangeLimit": 0x0028_0121,
}
"""Attributes that are checked or used when a series is opened, beside the patient's."""

_TAGS: Final = frozenset((_CHARACTER_SET, *_COMPARED.values()))


def fingerprint_of(header: Dataset) -> str:
    """Return a hash of the patient's identity and of all attributes that decide about an image.

    The header itself stays unchanged: its bytes go into derived images.
    """
    found = _copy(header)
    values = [texts(found, keyword) for keyword in _COMPARED]
    text = canonical_json([identity_of(found), values])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _copy(header: Dataset) -> Dataset:
    """Copy what is compared; asking for a value converts its element in the data set."""
    tags = [tag for tag in header.keys() if tag in _TAGS or tag >> 16 == PATIENT_GROUP]  # noqa: SIM118
    copy = Dataset({tag: header.get_item(tag) for tag in tags})
    is_implicit, is_little = header.original_encoding
    copy.set_original_encoding(is_implicit, is_little, header.original_character_set)
    return copy

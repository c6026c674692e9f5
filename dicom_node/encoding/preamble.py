"""Preamble of DICOM files (PS3.10, 7.1), and recognition of files without one.

Old archives and research tools write files that begin with File Meta Information, or directly with
the first element of the data set.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from pydicom import FileDataset
from pydicom.dataelem import RawDataElement
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import VR

HEAD_BYTES: Final = 132
"""Length of preamble and prefix."""

PREFIX: Final = b"DICM"
"""Bytes 128 to 131 of every DICOM file."""

PREAMBLE: Final = bytes(128) + PREFIX
"""A preamble without content, and the prefix."""

_FIRST_GROUPS: Final = (0x0002, 0x0008)
_MAX_FIRST_ELEMENT: Final = 0x0070
_MAX_FIRST_LENGTH_BYTES: Final = 1024
_VRS: Final = frozenset(vr.value.encode() for vr in VR if len(vr.value) == 2)


def has_prefix(head: bytes) -> bool:
    """Whether the first ``HEAD_BYTES`` of a file are those of PS3.10."""
    return head[128:HEAD_BYTES] == PREFIX


def begins_with_element(head: bytes) -> bool:
    """Whether a file begins with an element of group 0002 or 0008, as no other format does.

    Args:
        head: At least the first eight bytes of the file.
    """
    if len(head) < 8:
        return False
    return any(_is_first_element(head, order) for order in "<>")


def lacks_preamble(path: Path) -> bool:
    """Whether a file holds a data set without preamble and prefix.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return not has_prefix(head) and begins_with_element(head)


def begins_with_meta(head: bytes) -> bool:
    """Whether a data set without preamble has its File Meta Information in front."""
    return head[:2] == b"\2\0"


def _is_first_element(head: bytes, order: str) -> bool:
    group, element = struct.unpack_from(f"{order}HH", head)
    if group not in _FIRST_GROUPS or element > _MAX_FIRST_ELEMENT:
        return False
    (length,) = struct.unpack_from("<I", head, 4)
    return head[4:6] in _VRS or (order == "<" and length <= _MAX_FIRST_LENGTH_BYTES)


def correct_transfer_syntax(dataset: FileDataset) -> None:
    """Set a data set's transfer syntax to the actual one, where its file states another or none.

    Some writers put implicit VR under an explicit syntax, or the other way round; pydicom reads
    both, but writes by the stated syntax. A syntax of compressed pixels stays.
    """
    implicit, little = dataset.original_encoding
    as_read = next((one for one in dataset.values() if isinstance(one, RawDataElement)), None)
    if little and as_read is not None:
        implicit = as_read.VR is None
        dataset.set_original_encoding(implicit, True, dataset.original_character_set)
    if dataset.file_meta.get("TransferSyntaxUID") in _UNCOMPRESSED_LITTLE:
        dataset.file_meta.TransferSyntaxUID = _SYNTAXES[implicit, little]


_UNCOMPRESSED_LITTLE: Final = (None, ImplicitVRLittleEndian, ExplicitVRLittleEndian)

_SYNTAXES: Final[dict[tuple[bool | None, bool | None], UID]] = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}

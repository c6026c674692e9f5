"""Preamble and File Meta Information of a received image's file (PS3.10, 7.1)."""

from __future__ import annotations

import struct

from dicom_node.encoding.preamble import PREAMBLE
from dicom_node.product import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str) -> bytes:
    """Encode preamble and File Meta Information of an image stored as it was sent."""
    elements = b"".join((
        _element(0x0001, b"OB", b"\0\1"),
        _element(0x0002, b"UI", sop_class_uid.encode()),
        _element(0x0003, b"UI", sop_instance_uid.encode()),
        _element(0x0010, b"UI", transfer_syntax.encode()),
        _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode()),
        _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode()),
    ))  # fmt: skip
    return PREAMBLE + _element(0x0000, b"UL", struct.pack("<I", len(elements))) + elements


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    value += (b" " if vr == b"SH" else b"\0") * (len(value) % 2)
    if vr == b"OB":
        return struct.pack("<HH2sxxI", 0x0002, number, vr, len(value)) + value
    return struct.pack("<HH2sH", 0x0002, number, vr, len(value)) + value

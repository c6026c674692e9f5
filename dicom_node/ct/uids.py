"""UIDs of derived objects: computed, never random, so that a second run makes no second copy.

A derived UID is ``2.25.`` and a UUID (PS3.5 annex B.2). The UUID is of version 8 (RFC 9562): its
first 32 bits are this product's mark, the rest a hash of the source's UID and of everything that
determines the result. By the mark the loop guard recognises derived objects from the UID alone.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Final

from dicom_node.product import UID_MARK

UUID_ROOT: Final = "2.25."
"""The arc below which any UUID, written as a decimal number, is a UID."""

_UUID_BITS: Final = 128
_MARK_SHIFT: Final = _UUID_BITS - 32


def derived_uid(source_uid: str, digest: str) -> str:
    """Compute the UID of the object derived from an instance or series.

    Args:
        source_uid: UID of the source instance or series.
        digest: Hash over model card and settings (``Provenance.key``).

    Returns:
        The same UID for the same arguments; at most 44 characters.

    Example:
        >>> uid = derived_uid("1.2.3", "digest")
        >>> uid == derived_uid("1.2.3", "digest"), is_derived_uid(uid), is_derived_uid("1.2.3")
        (True, True, False)
    """
    hashed = hashlib.sha256(f"{source_uid}\n{digest}".encode()).digest()
    number = int.from_bytes(hashed[:16]) & ((1 << _MARK_SHIFT) - 1)
    return f"{UUID_ROOT}{_as_version_8(number | UID_MARK << _MARK_SHIFT)}"


def named_uid(*names: str) -> str:
    """Compute a UID from names (UUID of version 5), for objects that this product creates."""
    return f"{UUID_ROOT}{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(names)).int}"


def is_derived_uid(uid: str) -> bool:
    """Whether :func:`derived_uid` made this UID (by its mark; by chance once in 2 ** 38 UUIDs)."""
    text = uid.removeprefix(UUID_ROOT)
    if text == uid or not text.isdigit():
        return False
    number = int(text)
    return number >> _MARK_SHIFT == UID_MARK and number == _as_version_8(number)


def _as_version_8(number: int) -> int:
    """Set the UUID's version bits to 8 and its variant bits to RFC 9562."""
    number = number & ~(0xF << 76) | (0x8 << 76)
    return number & ~(0x3 << 62) | (0x2 << 62)

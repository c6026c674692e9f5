"""Checks of UIDs: usable ones identify one object, although they may break PS3.5, section 9.1.

Some makers write leading zeros into components, and UIDs of more than 64 characters. Other archives
accept such images, and so does this node, byte for byte: a corrected UID would name another object.
"""

from __future__ import annotations

import re

from pydicom.uid import UID

CONFORMANT_LENGTH = 64

MAX_UID_LENGTH = 128
"""Twice what the standard allows."""

_USABLE = re.compile(r"[0-9]+(?:\.[0-9]+)*")


def is_usable_uid(text: str) -> bool:
    """Whether a text can serve as a UID: components of digits, within `MAX_UID_LENGTH`."""
    return len(text) <= MAX_UID_LENGTH and _USABLE.fullmatch(text) is not None


def names_instance(announced: str, uid: str) -> bool:
    """Whether a C-STORE request announced this instance.

    DCMTK as a sender announces a longer UID by its first 64 characters.
    """
    is_cut = len(uid) > CONFORMANT_LENGTH and uid[:CONFORMANT_LENGTH] == announced
    return is_cut or uid == announced


def is_conformant_uid(text: str) -> bool:
    """Whether a UID conforms to PS3.5, section 9.1."""
    return is_usable_uid(text) and bool(UID(text).is_valid)

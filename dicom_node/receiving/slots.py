"""Association slots, shared by all receiver processes of a host: files locked while in use.

The kernel unlocks a slot however its process ends, so that a crash never costs one. Each file also
says which peer holds the slot, when it last sent an image, and whether it is asked to leave because
others wait.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

MAX_IMAGELESS_SECONDS = 15.0
"""While others wait, an association that has sent no image yet loses its slot after this time."""

MAX_PAUSE_SECONDS = 60.0
"""While others wait, one that has sent images loses its slot this long after the last of them."""

_NETWORK_BITS = 64
"""Prefix that a provider assigns to a single customer of IPv6; its addresses count as one."""

_RECORD = struct.Struct("<dd?64s64s")
"""Admitted at, last image at (`time.monotonic`; 0: none), asked to leave, AE title, address."""

_LAST_IMAGE_AT, _IS_WANTED_AT = 8, 16
_RENEWAL_SECONDS = 1.0


@dataclass(frozen=True)
class SlotHolder:
    """The peer that holds a slot.

    Attributes:
        title: Its calling AE title.
        address: Its address, by `address_key`.
        admitted_at: By ``time.monotonic``, which all processes of a host share; seconds.
        last_image_at: Likewise; 0 when it has sent none.
        is_wanted: Whether it was asked to leave.
    """

    title: str
    address: str
    admitted_at: float
    last_image_at: float = 0.0
    is_wanted: bool = False

    def may_be_given_up(self, now: float) -> bool:
        """Whether its last image is so long ago that a waiting peer may have the slot."""
        if self.last_image_at:
            return now - self.last_image_at > MAX_PAUSE_SECONDS
        return now - self.admitted_at > MAX_IMAGELESS_SECONDS

    def encode(self) -> bytes:
        """The record as it is written into the file."""
        title, address = (text.encode("ascii", "replace") for text in (self.title, self.address))
        return _RECORD.pack(self.admitted_at, self.last_image_at, self.is_wanted, title, address)


def address_key(host: str) -> str:
    """The unit that limits count as one address: an IPv4 address, or a /64 network of IPv6."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((address, _NETWORK_BITS), strict=False))


class Slot:
    """A slot that one association holds.

    Args:
        descriptor: Of the locked file.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._renewed_at = 0.0

    def mark(self, holder: SlotHolder) -> None:
        """Record the holder."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, holder.encode(), 0)

    def renew(self) -> None:
        """Record that an image has arrived; cheap when called often."""
        now = time.monotonic()
        if now > self._renewed_at + _RENEWAL_SECONDS:
            self._renewed_at = now
            os.pwrite(self._descriptor, struct.pack("<d", now), _LAST_IMAGE_AT)

    def should_leave(self) -> bool:
        """Whether others wait for it, and no image has arrived for too long."""
        holder = read_holder(self._descriptor) if self._descriptor >= 0 else None
        return holder is not None and holder.is_wanted and holder.may_be_given_up(time.monotonic())

    def leave(self) -> None:
        """Free the slot; repeated calls do nothing."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def read_holder(descriptor: int) -> SlotHolder | None:
    """Read the holder from a slot's file; None while it has none."""
    try:
        data = os.pread(descriptor, _RECORD.size, 0)
    except OSError:  # freed meanwhile
        return None
    if len(data) < _RECORD.size:
        return None
    admitted, last, wanted, title, address = _RECORD.unpack(data)
    return SlotHolder(_text(title), _text(address), admitted, last, wanted)


def ask_to_leave(descriptor: int) -> None:
    """Tell the process that holds a slot that others wait for it."""
    os.pwrite(descriptor, b"\1", _IS_WANTED_AT)


def lock(descriptor: int) -> bool:
    """Lock a slot's file; False if another association holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("ascii", "replace")

"""Places of associations: files that are locked while the association lasts.

The kernel unlocks a place however its process ends, so that no crash ever costs one, and every
receiver process of this host sees the places that the others hold: who holds each, how long it has
brought no image, and whether it is asked to leave because others wait.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

MAX_IMAGELESS_SECONDS = 15.0
"""While others wait, an association that has brought no image at all keeps its place so long."""

MAX_PAUSE_SECONDS = 60.0
"""While others wait, one that has brought images keeps its place so long after the last of them."""

_NETWORK_BITS = 64
"""What a provider gives a single customer of IPv6; each of its addresses counts as the same."""

_RECORD = struct.Struct("<dd?64s64s")
"""Admitted at, last image at (of `time.monotonic`; 0: none), asked to leave, title, address."""

_LAST_IMAGE_AT, _IS_WANTED_AT = 8, 16
_RENEWAL_SECONDS = 1.0


@dataclass(frozen=True)
class Holder:
    """Who holds a place.

    Attributes:
        title: AE title by which it called.
        address: See `address_key`.
        admitted_at: Of ``time.monotonic``, which all processes of a host share.
        last_image_at: Likewise; 0 when it has brought none.
        is_wanted: Whether it was asked to leave.
    """

    title: str
    address: str
    admitted_at: float
    last_image_at: float = 0.0
    is_wanted: bool = False

    def may_be_given_up(self, now: float) -> bool:
        """Whether it has brought no image for so long that others may have its place."""
        if self.last_image_at:
            return now - self.last_image_at > MAX_PAUSE_SECONDS
        return now - self.admitted_at > MAX_IMAGELESS_SECONDS

    def encode(self) -> bytes:
        """As it is written into the place."""
        title, address = (text.encode("ascii", "replace") for text in (self.title, self.address))
        return _RECORD.pack(self.admitted_at, self.last_image_at, self.is_wanted, title, address)


def address_key(host: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 network of one of IPv6."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((address, _NETWORK_BITS), strict=False))


class Place:
    """A place that one association holds.

    Args:
        descriptor: Of the locked file.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._renewed_at = 0.0

    def mark(self, holder: Holder) -> None:
        """Say who holds it."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, holder.encode(), 0)

    def renew(self) -> None:
        """Say that an image has come; it may be called often."""
        now = time.monotonic()
        if now > self._renewed_at + _RENEWAL_SECONDS:
            self._renewed_at = now
            os.pwrite(self._descriptor, struct.pack("<d", now), _LAST_IMAGE_AT)

    def should_leave(self) -> bool:
        """Whether others wait for it, and it has not brought an image since they asked."""
        holder = look_at(self._descriptor) if self._descriptor >= 0 else None
        return holder is not None and holder.is_wanted and holder.may_be_given_up(time.monotonic())

    def leave(self) -> None:
        """Make room for the next; more than once is no harm."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def look_at(descriptor: int) -> Holder | None:
    """Who holds the place that this file is; None while it is not marked."""
    try:
        data = os.pread(descriptor, _RECORD.size, 0)
    except OSError:  # given up meanwhile
        return None
    if len(data) < _RECORD.size:
        return None
    admitted, last, wanted, title, address = _RECORD.unpack(data)
    return Holder(_text(title), _text(address), admitted, last, wanted)


def ask_to_leave(descriptor: int) -> None:
    """Let the process that holds a place know that others wait for it."""
    os.pwrite(descriptor, b"\1", _IS_WANTED_AT)


def lock(descriptor: int) -> bool:
    """Take a place, if nobody holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("ascii", "replace")

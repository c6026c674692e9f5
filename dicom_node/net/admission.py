"""Whom the receiver lets in: allowed addresses, limits over all of its processes, room on the disk.

A place is a file that is locked while its association lasts. The kernel unlocks it however the
process ends, so that no crash ever costs a place, and every receiver process of this host sees the
places that the others hold.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

from dicom_node.errors import StorageError
from dicom_node.logs import get_logger
from dicom_node.net.negotiation import NO_ROOM, TOO_MANY, TOO_MANY_OF_PEER, Refusal
from dicom_node.settings import Settings
from dicom_node.store.durable import disk_faults

log = get_logger(__name__)

GIB = 1024**3

ECHO_PLACES = 8
"""For associations that can only be asked for an echo: those have to be answered always."""

_LONGEST_TITLE_BYTES = 64


class Place:
    """A place that one association holds.

    Args:
        descriptor: Of the locked file.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def mark(self, title: bytes) -> None:
        """Say who holds it."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, title, 0)

    def leave(self) -> None:
        """Make room for the next; more than once is no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Admission:
    """Who may come in now.

    Args:
        settings: Addresses, limits, and the reserve of free disk.
    """

    def __init__(self, settings: Settings) -> None:
        self._hosts = settings.accept.hosts
        self._most = settings.listen.max_associations
        self._most_of_peer = settings.listen.max_associations_per_peer
        self._storage = settings.storage
        self._reserve_bytes = settings.retention.disk_reserve_gib * GIB
        self._folder = settings.storage / "associations" / socket.gethostname()

    def is_allowed(self, host: str) -> bool:
        """Whether an address may connect at all."""
        if not self._hosts:
            return True
        address = ip_address(host.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._hosts)

    def admit(self, calling: str, *, verifies_only: bool) -> Place | Refusal:
        """A place for an association, or why there is none now.

        On a disk without a single free block no new place can be made either: whoever wants to
        store is told to come again, and whoever asks for an echo gets it without a place.
        """
        try:
            if verifies_only:
                return self._take("echo", ECHO_PLACES, calling, ECHO_PLACES)
            if self.has_room():
                return self._take("store", self._most, calling, self._most_of_peer)
        except StorageError as error:
            log.warning("no place can be made", reason=str(error))
            if verifies_only:
                return Place(os.open(os.devnull, os.O_RDWR))
        return NO_ROOM

    def has_room(self) -> bool:
        """Whether the disk has more than its reserve free."""
        return self._free_bytes() >= self._reserve_bytes

    def check_room(self) -> None:
        """See that the disk has more than its reserve free.

        Raises:
            StorageError: It has not.
        """
        free = self._free_bytes()
        if free < self._reserve_bytes:
            raise StorageError(
                f"Only {free / GIB:.1f} GiB are free under {self._storage}: the reserve of"
                f" {self._reserve_bytes / GIB:.1f} GiB is not touched; make room."
            )

    def _free_bytes(self) -> int:
        with disk_faults(self._storage):
            self._storage.mkdir(parents=True, exist_ok=True)
            return shutil.disk_usage(self._storage).free

    def _take(self, kind: str, most: int, calling: str, most_of_peer: int) -> Place | Refusal:
        title = calling.encode("utf-8", "replace")[:_LONGEST_TITLE_BYTES]
        with disk_faults(self._folder), self._alone():
            place, holders = self._look(kind, most)
            if place is None or holders.count(title) >= most_of_peer:
                if place is not None:
                    place.leave()
                return TOO_MANY if place is None else TOO_MANY_OF_PEER
            place.mark(title)
            return place

    def _look(self, kind: str, most: int) -> tuple[Place | None, list[bytes]]:
        """A free place, and the titles of those who hold the others."""
        place, holders = None, []
        for number in range(most):
            descriptor = self._open(f"{kind}-{number}")
            if not _lock(descriptor):
                holders.append(os.pread(descriptor, _LONGEST_TITLE_BYTES, 0))
            elif place is None:
                place = Place(descriptor)
                continue
            os.close(descriptor)
        return place, holders

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else counts meanwhile."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = self._open("counting")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _open(self, name: str) -> int:
        return os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

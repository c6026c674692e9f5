"""Whom the receiver lets in: allowed addresses, limits over all of its processes, room on the disk.

No title and no address gets more than its share of the places, and whoever keeps one without
bringing images gives it up as soon as somebody else comes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

from dicom_node.dimse.negotiation import (
    NO_ROOM,
    TOO_MANY,
    TOO_MANY_OF_ADDRESS,
    TOO_MANY_OF_PEER,
    Refusal,
)
from dicom_node.errors import StorageError
from dicom_node.health.refusals import note_turned_away
from dicom_node.logs import get_logger
from dicom_node.receiving.places import Holder, Place, address_key, ask_to_leave, lock, look_at
from dicom_node.settings import Settings
from dicom_node.store.durable import disk_faults

log = get_logger(__name__)

GIB = 1024**3

ECHO_PLACES = 8
"""For associations that can only be asked for an echo: those have to be answered always."""

ECHO_PLACES_OF_ADDRESS = 6

MAX_WAIT_SECONDS = 2.0
"""How long a newcomer waits for a place that somebody was asked to give up."""

_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class _Limits:
    """How many places there are of a kind, and how many of them one peer and one address get."""

    kind: str
    most: int
    of_peer: int
    of_address: int


class Admission:
    """Who may come in now.

    Args:
        settings: Addresses, limits, and the reserve of free disk.
    """

    def __init__(self, settings: Settings) -> None:
        self._hosts = settings.accept.hosts
        self._metrics = settings.metrics_folder
        listen = settings.listen
        self._storing = _Limits(
            "store",
            listen.max_associations,
            listen.max_associations_per_peer,
            listen.most_of_address,
        )
        self._echoing = _Limits("echo", ECHO_PLACES, ECHO_PLACES, ECHO_PLACES_OF_ADDRESS)
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

    def admit(self, calling: str, host: str, *, verifies_only: bool) -> Place | Refusal:
        """A place for an association, or why there is none now.

        It may wait a moment for one that somebody else is asked to give up. On a disk without a
        single free block no new place can be made either: whoever wants to store is told to come
        again, and whoever asks for an echo gets it without a place.
        """
        newcomer = Holder(calling, address_key(host), time.monotonic())
        try:
            if verifies_only:
                return self._take(newcomer, self._echoing)
            if self.has_room():
                return self._take(newcomer, self._storing)
        except StorageError as error:
            log.warning("no place can be made", reason=str(error))
            if verifies_only:
                return Place(os.open(os.devnull, os.O_RDWR))
        return NO_ROOM

    def note_turned_away(self) -> None:
        """Leave word for the health check that somebody found no place at all."""
        try:
            note_turned_away(self._metrics, time.time())
        except OSError as error:
            log.warning("a refusal cannot be noted", reason=error.strerror)

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

    def _take(self, newcomer: Holder, limits: _Limits) -> Place | Refusal:
        """A place within the limits; once, somebody who brings nothing is asked for his."""
        deadline = newcomer.admitted_at + MAX_WAIT_SECONDS
        has_asked = False
        while True:
            with disk_faults(self._folder), self._alone():
                place, holders = self._look(limits)
                refusal = _refusal(newcomer, holders.values(), limits, place)
                if place is not None and refusal is None:
                    place.mark(newcomer)
                    return place
                if place is not None:
                    place.leave()
                has_asked = has_asked or self._ask(newcomer, holders, refusal)
            if refusal is not None and (not has_asked or time.monotonic() > deadline):
                return refusal
            time.sleep(_LOOK_SECONDS)

    def _ask(
        self, newcomer: Holder, holders: Mapping[str, Holder], refusal: Refusal | None
    ) -> bool:
        """Ask whoever should give way to a newcomer first; False when nobody has to."""
        rivals = [name for name, holder in holders.items() if _is_rival(holder, newcomer, refusal)]
        if not rivals:
            return False
        shares = Counter(holder.address for holder in holders.values())
        descriptor = self._open(min(rivals, key=lambda name: _order(holders[name], shares)))
        try:
            ask_to_leave(descriptor)
        finally:
            os.close(descriptor)
        return True

    def _look(self, limits: _Limits) -> tuple[Place | None, dict[str, Holder]]:
        """A free place, and who holds the others, by name of the place."""
        place, holders = None, {}
        for number in range(limits.most):
            name = f"{limits.kind}-{number}"
            descriptor = self._open(name)
            if not lock(descriptor):
                holders[name] = look_at(descriptor)
            elif place is None:
                place = Place(descriptor)
                continue
            os.close(descriptor)
        return place, {name: holder for name, holder in holders.items() if holder is not None}

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


def _refusal(
    newcomer: Holder, others: Iterable[Holder], limits: _Limits, place: Place | None
) -> Refusal | None:
    """The limit that stands against a newcomer, the narrowest first."""
    of_address = [item for item in others if item.address == newcomer.address]
    of_peer = [item for item in of_address if item.title == newcomer.title]
    if len(of_peer) >= limits.of_peer:
        return TOO_MANY_OF_PEER
    if len(of_address) >= limits.of_address:
        return TOO_MANY_OF_ADDRESS
    return TOO_MANY if place is None else None


def _is_rival(holder: Holder, newcomer: Holder, refusal: Refusal | None) -> bool:
    """Whether a place would help a newcomer, and its holder has to give it up."""
    if refusal in (TOO_MANY_OF_PEER, TOO_MANY_OF_ADDRESS) and holder.address != newcomer.address:
        return False
    if refusal == TOO_MANY_OF_PEER and holder.title != newcomer.title:
        return False
    return not holder.is_wanted and holder.may_be_given_up(newcomer.admitted_at)


def _order(holder: Holder, shares: Counter[str]) -> tuple[int, bool, float]:
    """Of the address with most places first; who has never brought an image before who has."""
    idle_since = max(holder.admitted_at, holder.last_image_at)
    return -shares[holder.address], holder.last_image_at > 0, idle_since

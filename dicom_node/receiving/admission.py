"""Admission control: allowed addresses, association limits over all processes, free disk space.

No AE title and no address gets more than its share of the slots, and an association that sends no
images loses its slot as soon as another peer waits for one.
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
    Rejection,
)
from dicom_node.errors import StorageError
from dicom_node.health.refusals import note_turned_away
from dicom_node.logs import get_logger
from dicom_node.receiving.slots import (
    Slot,
    SlotHolder,
    address_key,
    ask_to_leave,
    lock,
    read_holder,
)
from dicom_node.settings import Settings
from dicom_node.store.disk import size_in_words
from dicom_node.store.durable import disk_faults

log = get_logger(__name__)


ECHO_SLOTS = 8
"""Slots for associations that propose Verification only: an echo must always be answered."""

ECHO_SLOTS_PER_ADDRESS = 6

MAX_WAIT_SECONDS = 2.0
"""Wait of a new peer for a slot whose holder was asked to leave."""

_RETRY_SECONDS = 0.05


@dataclass(frozen=True)
class _Limits:
    """Number of slots of a kind, and how many of them one peer and one address may hold."""

    kind: str
    max_slots: int
    max_per_peer: int
    max_per_address: int


class Admission:
    """Decides which peers may connect and associate now.

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
            listen.address_limit,
        )
        self._echoing = _Limits("echo", ECHO_SLOTS, ECHO_SLOTS, ECHO_SLOTS_PER_ADDRESS)
        self._storage = settings.storage
        self._reserve_bytes = settings.retention.disk_reserve_bytes
        self._folder = settings.storage / "associations" / socket.gethostname()

    def is_allowed(self, host: str) -> bool:
        """Whether an address may connect at all."""
        if not self._hosts:
            return True
        address = ip_address(host.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._hosts)

    def admit(self, calling: str, host: str, *, verifies_only: bool) -> Slot | Rejection:
        """Find a slot for an association, or the rejection to answer with.

        May wait up to `MAX_WAIT_SECONDS` for a slot whose holder is asked to leave. On a disk
        without a free block no slot can be recorded: storing is rejected as transient, and an echo
        is answered without a slot.
        """
        newcomer = SlotHolder(calling, address_key(host), time.monotonic())
        try:
            if verifies_only:
                return self._take(newcomer, self._echoing)
            if self.has_room():
                return self._take(newcomer, self._storing)
        except StorageError as error:
            log.warning("no association slot can be made", reason=str(error))
            if verifies_only:
                return Slot(os.open(os.devnull, os.O_RDWR))
        return NO_ROOM

    def note_turned_away(self) -> None:
        """Record for the health check that a peer found no slot at all."""
        try:
            note_turned_away(self._metrics, time.time())
        except OSError as error:
            log.warning("a refusal cannot be recorded", reason=error.strerror)

    def has_room(self) -> bool:
        """Whether the disk has more than its reserve free."""
        return self._free_bytes() >= self._reserve_bytes

    def check_room(self) -> None:
        """Check that the disk has more than its reserve free.

        Raises:
            StorageError: It has less.
        """
        free = self._free_bytes()
        if free < self._reserve_bytes:
            raise StorageError(
                f"Only {size_in_words(free)} are free under {self._storage}: the reserve of"
                f" {size_in_words(self._reserve_bytes)} is not touched; make room."
            )

    def _free_bytes(self) -> int:
        with disk_faults(self._storage):
            self._storage.mkdir(parents=True, exist_ok=True)
            return shutil.disk_usage(self._storage).free

    def _take(self, newcomer: SlotHolder, limits: _Limits) -> Slot | Rejection:
        """Take a slot within the limits; one holder that sends nothing may be asked to leave."""
        deadline = newcomer.admitted_at + MAX_WAIT_SECONDS
        has_asked = False
        while True:
            with disk_faults(self._folder), self._exclusively():
                slot, holders = self._survey(limits)
                rejection = _rejection(newcomer, holders.values(), limits, slot)
                if slot is not None and rejection is None:
                    slot.mark(newcomer)
                    return slot
                if slot is not None:
                    slot.leave()
                has_asked = has_asked or self._ask(newcomer, holders, rejection)
            if rejection is not None and (not has_asked or time.monotonic() > deadline):
                return rejection
            time.sleep(_RETRY_SECONDS)

    def _ask(
        self, newcomer: SlotHolder, holders: Mapping[str, SlotHolder], rejection: Rejection | None
    ) -> bool:
        """Ask the first holder that should give way to leave; False when there is none."""
        rivals = [
            name for name, holder in holders.items() if _is_rival(holder, newcomer, rejection)
        ]
        if not rivals:
            return False
        shares = Counter(holder.address for holder in holders.values())
        descriptor = self._open(min(rivals, key=lambda name: _order(holders[name], shares)))
        try:
            ask_to_leave(descriptor)
        finally:
            os.close(descriptor)
        return True

    def _survey(self, limits: _Limits) -> tuple[Slot | None, dict[str, SlotHolder]]:
        """Lock a free slot, and read the holders of the others, by name of the slot."""
        slot, holders = None, {}
        for number in range(limits.max_slots):
            name = f"{limits.kind}-{number}"
            descriptor = self._open(name)
            if not lock(descriptor):
                holders[name] = read_holder(descriptor)
            elif slot is None:
                slot = Slot(descriptor)
                continue
            os.close(descriptor)
        return slot, {name: holder for name, holder in holders.items() if holder is not None}

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Exclude other processes while slots are counted."""
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = self._open("counting")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _open(self, name: str) -> int:
        return os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _rejection(
    newcomer: SlotHolder, others: Iterable[SlotHolder], limits: _Limits, slot: Slot | None
) -> Rejection | None:
    """The limit that a new peer exceeds, the narrowest first."""
    of_address = [item for item in others if item.address == newcomer.address]
    of_peer = [item for item in of_address if item.title == newcomer.title]
    if len(of_peer) >= limits.max_per_peer:
        return TOO_MANY_OF_PEER
    if len(of_address) >= limits.max_per_address:
        return TOO_MANY_OF_ADDRESS
    return TOO_MANY if slot is None else None


def _is_rival(holder: SlotHolder, newcomer: SlotHolder, rejection: Rejection | None) -> bool:
    """Whether a new peer could use this slot, and its holder has to give it up."""
    if rejection in (TOO_MANY_OF_PEER, TOO_MANY_OF_ADDRESS) and holder.address != newcomer.address:
        return False
    if rejection == TOO_MANY_OF_PEER and holder.title != newcomer.title:
        return False
    return not holder.is_wanted and holder.may_be_given_up(newcomer.admitted_at)


def _order(holder: SlotHolder, shares: Counter[str]) -> tuple[int, bool, float]:
    """Sort key: the address with most slots first, then holders that never sent an image."""
    idle_since = max(holder.admitted_at, holder.last_image_at)
    return -shares[holder.address], holder.last_image_at > 0, idle_since

"""The sender: claim a job whose derived files are durable, send them, note what was confirmed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from dicom_node.errors import PeerError
from dicom_node.ledger.deliveries import (
    Sent,
    claim_delivery,
    confirm,
    give_back_delivery,
    note_sent,
    results_lost,
    sent_names,
    waiting_destinations,
)
from dicom_node.ledger.engine import Ledger, open_ledger
from dicom_node.ledger.jobs import LeaseLost
from dicom_node.ledger.leases import Heartbeat, owner_name, settle_delivery_fault, work_until
from dicom_node.ledger.model import Delivery
from dicom_node.logs import bound, get_logger, short_hash
from dicom_node.settings import PeerSettings, Settings
from dicom_node.store.outbox import Outbox

log = get_logger(__name__)

FILES_PER_CALL = 100
"""So many images go over one association before what was confirmed is noted."""

ShouldStop = Callable[[], bool]


class SendResult(Protocol):
    """What became of one file; ``dicom_node.net.sender`` has the real one."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def status(self) -> int | None:
        """DIMSE status (PS3.4, table B.2-1); None when no answer came."""

    @property
    def ok(self) -> bool:
        """Whether the peer has the image now."""

    @property
    def transient(self) -> bool:
        """Whether sending it again later can succeed."""

    @property
    def sentence(self) -> str:
        """The outcome in words."""


class SendFiles(Protocol):
    """``dicom_node.net.sender.send_files``, handed in: this floor does not see that one."""

    def __call__(
        self, peer: PeerSettings, files: Sequence[Path], *, calling_ae: str
    ) -> Sequence[SendResult]:
        """Send files over one association; one result each.

        Raises:
            PeerError: No association could be made.
        """


class Sender:
    """Takes deliveries from PENDING to CONFIRMED, one at a time.

    Args:
        ledger: The ledger.
        outbox: Where the derived images are.
        send: Sends files to a peer.
        settings: Peers, own AE title, retries.
        owner: Name of this sender in the ledger.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        ledger: Ledger,
        outbox: Outbox,
        send: SendFiles,
        settings: Settings,
        *,
        owner: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ledger, self._outbox, self._send = ledger, outbox, send
        self._settings, self._clock = settings, clock
        self._owner = owner or owner_name()

    def send_once(self, should_stop: ShouldStop) -> bool:
        """Make one delivery to each destination for which one waits; returns whether one did."""
        sent = [self._send_one(n, should_stop) for n in waiting_destinations(self._ledger)]
        return any(sent)

    def _send_one(self, destination: str, should_stop: ShouldStop) -> bool:
        delivery = claim_delivery(self._ledger, destination, owner=self._owner, now=self._clock())
        if delivery is None:
            return False
        with (
            bound(job=delivery.job_id, series=short_hash(delivery.series_uid)),
            Heartbeat(self._ledger, delivery, owner=self._owner) as beat,
        ):
            try:
                self._deliver(delivery, lambda: should_stop() or beat.lost.is_set())
            except LeaseLost:
                log.warning("delivery left to its new owner")
        return True

    def _deliver(self, delivery: Delivery, stopped: ShouldStop) -> None:
        files = self._outbox.committed(delivery.token)
        owner, now = self._owner, self._clock()
        if len(files) != delivery.derived_count:
            lost = results_lost(self._ledger, delivery.job_id, owner=owner, now=now)
            log.error("job stopped", state=lost.state, reason=lost.reason)
            return
        try:
            if self._deliver_to(delivery, files, stopped):
                confirm(self._ledger, delivery.id, owner=owner, now=now)
            else:
                give_back_delivery(self._ledger, delivery.id, owner=owner, now=now)
                log.info("delivery given back")
        except LeaseLost:
            raise
        except Exception as error:
            retry = self._settings.retry
            settle_delivery_fault(self._ledger, delivery, error, owner=owner, retry=retry, now=now)

    def _deliver_to(self, delivery: Delivery, files: Sequence[Path], stopped: ShouldStop) -> bool:
        """Send one destination what it lacks; False when told to stop before the end."""
        peer = self._settings.dicom_peer(delivery.destination)
        sent = sent_names(self._ledger, delivery.id)
        missing = [path for path in files if path.name not in sent]
        begin = time.perf_counter()
        for start in range(0, len(missing), FILES_PER_CALL):
            if stopped():
                return False
            self._send_some(delivery, peer, missing[start : start + FILES_PER_CALL])
        seconds = round(time.perf_counter() - begin, 2)
        log.info("images sent", destination=peer.name, images=len(missing), seconds=seconds)
        return True

    def _send_some(self, delivery: Delivery, peer: PeerSettings, files: Sequence[Path]) -> None:
        results = self._send(peer, files, calling_ae=self._settings.ae_title)
        sent = {item.path.name: Sent("", item.status or 0) for item in results if item.ok}
        note_sent(self._ledger, delivery.id, owner=self._owner, sent=sent, now=self._clock())
        refused = [item for item in results if not item.ok]
        if refused:
            # A lasting refusal of one image is not cured by waiting for the others.
            worst = next((item for item in refused if not item.transient), refused[0])
            raise PeerError(
                f"{peer.name}: {len(refused)} of {len(files)} images not stored, {worst.sentence}.",
                transient=worst.transient,
            )


def run_sender(settings: Settings, *, send: SendFiles, should_stop: ShouldStop) -> None:
    """Send until told to stop; the job in hand is given back after the images under way.

    Raises:
        ConfigurationError: The ledger belongs to another version of this program.
        StorageError: The ledger cannot be opened.
    """
    ledger = open_ledger(settings.database)
    sender = Sender(ledger, Outbox(settings.outbox_folder), send, settings)
    try:
        work_until(sender.send_once, should_stop)
    finally:
        ledger.close()

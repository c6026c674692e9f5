"""The sender: claim a job whose derived files are durable, send them, note what was confirmed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from dicom_node.errors import NodeError, PeerError
from dicom_node.ledger.deliveries import confirm, confirmed_names, note_fault
from dicom_node.ledger.engine import Ledger, open_ledger
from dicom_node.ledger.jobs import LeaseLost, claim, done, give_back, results_lost
from dicom_node.ledger.leases import Heartbeat, owner_name, settle_fault, work_until
from dicom_node.ledger.model import Delivery, Job
from dicom_node.ledger.states import DeliveryState
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
    """Takes jobs from DERIVED to DONE, one at a time.

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
        """Send the results of one job, if one waits; returns whether one did.

        Every destination is tried, and each gets only what it has not confirmed. The job is DONE
        when all have everything, waits when a fault may pass, and fails when none may.
        """
        job = claim(self._ledger, stage="send", owner=self._owner, now=self._clock())
        if job is None:
            return False
        with (
            bound(job=job.id, series=short_hash(job.series_uid)),
            Heartbeat(self._ledger, job, owner=self._owner) as beat,
        ):
            try:
                self._deliver(job, lambda: should_stop() or beat.lost.is_set())
            except LeaseLost:
                log.warning("job left to its new owner")
        return True

    def _deliver(self, job: Job, stopped: ShouldStop) -> None:
        files = self._outbox.committed(job.token)
        if len(files) != job.derived_count:
            lost = results_lost(self._ledger, job.id, owner=self._owner, now=self._clock())
            log.error("job stopped", state=lost.state, reason=lost.reason)
            return
        try:
            faults = self._try_every_destination(job, files, stopped)
        except LeaseLost:
            raise
        except Exception as error:
            faults = [error]
        if faults is None:
            give_back(self._ledger, job.id, owner=self._owner, now=self._clock())
            log.info("job given back")
        elif faults:
            self._settle(job, faults)
        else:
            done(self._ledger, job.id, owner=self._owner, now=self._clock())
            log.info("job done", images=job.derived_count, destinations=len(job.deliveries))

    def _try_every_destination(
        self, job: Job, files: Sequence[Path], stopped: ShouldStop
    ) -> list[Exception] | None:
        """The faults met, or None when told to stop before the end."""
        faults: list[Exception] = []
        for delivery in job.deliveries:
            try:
                if not self._deliver_to(delivery, files, stopped):
                    return None
            except LeaseLost:
                raise
            except NodeError as error:
                faults.append(error)
                self._note(delivery, error)
        return faults

    def _deliver_to(self, delivery: Delivery, files: Sequence[Path], stopped: ShouldStop) -> bool:
        """Send one destination what it lacks; False when told to stop before the end."""
        if delivery.state == DeliveryState.CONFIRMED:
            return True
        if delivery.state == DeliveryState.REFUSED:
            raise PeerError(delivery.reason, transient=False)
        peer = self._settings.dicom_peer(delivery.destination)
        confirmed = confirmed_names(self._ledger, delivery.id)
        missing = [path for path in files if path.name not in confirmed]
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
        statuses = {item.path.name: item.status for item in results if item.ok}
        confirm(
            self._ledger,
            delivery.id,
            owner=self._owner,
            statuses={name: status or 0 for name, status in statuses.items()},
            now=self._clock(),
        )
        refused = [item for item in results if not item.ok]
        if refused:
            # A lasting refusal of one image is not cured by waiting for the others.
            worst = next((item for item in refused if not item.transient), refused[0])
            raise PeerError(
                f"{peer.name}: {len(refused)} of {len(files)} images not stored, {worst.sentence}.",
                transient=worst.transient,
            )

    def _note(self, delivery: Delivery, error: NodeError) -> None:
        note_fault(
            self._ledger,
            delivery.id,
            owner=self._owner,
            reason=str(error),
            lasting=not error.transient,
        )

    def _settle(self, job: Job, faults: list[Exception]) -> None:
        """Wait while any fault may pass; what lasts is parked and told when nothing else waits."""
        lasting = [f for f in faults if isinstance(f, NodeError) and not f.transient]
        passing = [f for f in faults if f not in lasting]
        settle_fault(
            self._ledger,
            job,
            (passing or lasting)[0],
            owner=self._owner,
            retry=self._settings.retry,
            now=self._clock(),
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

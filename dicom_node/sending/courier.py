"""Couriers: each sends deliveries to one destination, one at a time."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node import telemetry
from dicom_node.audit import Audit
from dicom_node.dimse.status import NO_SUCH_SOP_INSTANCE, SUCCESS
from dicom_node.ledger.claim import LeaseLost
from dicom_node.ledger.commitments import report
from dicom_node.ledger.deliveries import DeliveryClaim, Sent, claim_delivery
from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.leases import Heartbeat
from dicom_node.ledger.pending import wants_at_once
from dicom_node.logs import bound, get_logger, short_hash
from dicom_node.sending.outcome import SendResult, is_absence, not_stored
from dicom_node.sending.ports import (
    CommittingSession,
    Report,
    Session,
    ShouldStop,
    Transport,
)
from dicom_node.sending.transfer import audited_transfer, count
from dicom_node.settings import PeerSettings, Settings
from dicom_node.store.outbox import Outbox

log = get_logger(__name__)

NOTE_BATCH_SIZE = 50
"""Images that are noted in the ledger at once; a crash costs no more than sending them again."""

REPORT_WAIT_SECONDS = 1.0
"""Time to wait for a report on storage commitment on the association that asked for it."""

MAX_ABSENCE_SECONDS = 300.0
"""Longest pause before a destination that is away is called again: it gets its images soon after it
is back, however long it was away."""


@dataclass(frozen=True)
class SendingContext:
    """Resources that the couriers and the reporter of one process share.

    Attributes:
        ledger: Where deliveries and reports are claimed.
        outbox: Where the derived images are.
        transport: The ways to other systems.
        settings: Peers, own AE title, retries.
        owner: Name of this process in the ledger.
        audit: Records every transfer.
        clock: Seconds since 1970.
    """

    ledger: Ledger
    outbox: Outbox
    transport: Transport
    settings: Settings
    owner: str
    audit: Audit | None = None
    clock: Callable[[], float] = time.time


class Courier:
    """Send deliveries to one destination.

    Args:
        destination: Its name in the configuration, or one that has left it.
        context: The resources of this process.
    """

    def __init__(self, destination: str, context: SendingContext) -> None:
        self._destination, self._context = destination, context
        self._ledger, self._clock = context.ledger, context.clock
        self._absences = 0
        self._away_until = 0.0

    @property
    def is_away(self) -> bool:
        """Whether the destination was away a moment ago; a clock set back ends the wait."""
        wait = self._away_until - self._clock()
        return 0 < wait <= MAX_ABSENCE_SECONDS

    def is_due(self) -> bool:
        """Return whether to call: the destination was not just away, or an operator asks for it.

        Raises:
            StorageError: The ledger cannot be used.
        """
        return not self.is_away or wants_at_once(self._ledger, self._destination)

    def deliver(self, should_stop: ShouldStop) -> bool:
        """Make the next delivery; return whether there was one.

        Only images that the destination lacks are sent. Every fault is settled in the ledger.

        Raises:
            StorageError: The ledger cannot be used.
        """
        if not self.is_due():
            return False
        claim = claim_delivery(
            self._ledger, self._destination, owner=self._context.owner, clock=self._clock
        )
        if claim is None:
            return False
        delivery = claim.delivery
        with (
            bound(job=delivery.job_id, series=short_hash(delivery.series_uid)),
            Heartbeat(claim) as beat,
        ):
            try:
                self._attempt(claim, lambda: should_stop() or beat.lost.is_set())
            except LeaseLost:
                log.warning("delivery left to its new owner", destination=self._destination)
        return True

    def _attempt(self, claim: DeliveryClaim, stopped: ShouldStop) -> None:
        begin = time.perf_counter()
        delivery = claim.delivery
        files = {path.name: path for path in self._context.outbox.committed(delivery.token)}
        if len(files) != delivery.derived_count:
            job = claim.results_lost()
            log.error("job stopped", state=job.state, reason=job.reason)
            return
        try:
            self._hand_over(claim, files, stopped)
        except LeaseLost:
            raise
        except Exception as error:
            self._settle(claim, error)
        else:
            self._absences, self._away_until = 0, 0.0
            telemetry.stage_seconds("send", time.perf_counter() - begin)

    def _hand_over(
        self, claim: DeliveryClaim, files: Mapping[str, Path], stopped: ShouldStop
    ) -> None:
        peer = self._context.settings.peer(self._destination)
        sent = claim.sent_names()
        missing = [path for name, path in files.items() if name not in sent]
        transport = self._context.transport
        if isinstance(peer, PeerSettings) and peer.storage_commitment:
            with transport.open_committing(peer, missing) as committing:
                if self._send(claim, committing, missing, stopped):
                    self._commit(claim, peer, committing, files)
            return
        with transport.open(peer, missing) as session:
            complete = self._send(claim, session, missing, stopped)
        if complete:
            claim.confirm()
            log.info("delivery confirmed", destination=self._destination)

    def _send(
        self, claim: DeliveryClaim, session: Session, missing: Sequence[Path], stopped: ShouldStop
    ) -> bool:
        """Send the missing images; return False when stopped before the end and given back."""
        begin = time.perf_counter()
        peer = self._context.settings.peer(self._destination)
        results: list[SendResult] = []
        with audited_transfer(self._context.audit, peer, missing, results):
            self._transfer(claim, session, stopped, results)
        if not all(result.ok for result in results):
            raise not_stored(self._destination, results)
        if len(results) < len(missing):
            claim.give_back()
            log.info("delivery given back", destination=self._destination)
            return False
        seconds = round(time.perf_counter() - begin, 2)
        log.info("images sent", destination=self._destination, images=len(results), seconds=seconds)
        return True

    def _transfer(
        self,
        claim: DeliveryClaim,
        session: Session,
        stopped: ShouldStop,
        results: list[SendResult],
    ) -> None:
        """Send, and note the stored images, also when the connection breaks in between."""
        noted = 0
        try:
            for result in session.send(stopped):
                count(self._destination, result)
                results.append(result)
                if len(results) - noted >= NOTE_BATCH_SIZE:
                    self._note(claim, results[noted:])
                    noted = len(results)
        finally:
            self._note(claim, results[noted:])

    def _note(self, claim: DeliveryClaim, results: Sequence[SendResult]) -> None:
        sent = {
            result.path.name: Sent(result.sop_instance_uid, result.status or SUCCESS)
            for result in results
            if result.ok
        }
        if sent:
            claim.note_sent(sent)

    def _commit(
        self,
        claim: DeliveryClaim,
        peer: PeerSettings,
        session: CommittingSession,
        files: Mapping[str, Path],
    ) -> None:
        """Request storage commitment for all images that the destination has stored."""
        stored = claim.uncommitted()
        # 2.25 and a random UUID is a UID of nobody's root (PS3.5, B.2).
        uid = f"2.25.{uuid.uuid4().int}"
        claim.begin_commitment(uid)
        session.ask_commitment(
            uid,
            [files[name] for name in stored],
            on_report=self._take_report,
            wait_seconds=REPORT_WAIT_SECONDS,
        )
        settled = claim.await_commitment(uid, wait_seconds=peer.commitment_seconds)
        log.info("commitment asked", destination=self._destination, state=settled.state)

    def _take_report(self, answer: Report) -> int:
        """Record a report that came on the association of the request; return the status."""
        known = report(
            self._ledger,
            answer.transaction_uid,
            committed=answer.committed,
            failed=answer.failed,
            now=self._clock(),
            retry=self._context.settings.retry,
        )
        return SUCCESS if known else NO_SUCH_SOP_INSTANCE

    def _settle(self, claim: DeliveryClaim, error: Exception) -> None:
        retry = self._context.settings.retry
        if is_absence(error):
            self._note_absence(claim, error)
            return
        settled = claim.settle(error, retry)
        log.warning(
            "delivery stopped",
            destination=self._destination,
            state=settled.state,
            attempt=claim.delivery.attempts + claim.delivery.waits,
            reason=settled.reason,
        )

    def _note_absence(self, claim: DeliveryClaim, error: Exception) -> None:
        """Put off the delivery and those behind it, which need not find out for themselves.

        It is the destination that is away, not this delivery that is wrong: no attempt is spent.
        """
        self._absences += 1
        delay = self._context.settings.retry.delay_seconds(self._absences)
        delay = min(delay, MAX_ABSENCE_SECONDS)
        self._away_until = self._clock() + delay  # also when the claim or the ledger is lost
        claim.retry_later(str(error), delay_seconds=delay, counted=False)
        log.warning(
            "destination away",
            destination=self._destination,
            calls=self._absences,
            seconds=round(delay),
            reason=str(error),
        )

"""A courier brings deliveries to one destination, one at a time."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from dicom_node import telemetry
from dicom_node.dimse.status import NO_SUCH_SOP_INSTANCE, SUCCESS
from dicom_node.ledger.commitments import await_commitment, begin_commitment, report
from dicom_node.ledger.deliveries import (
    Sent,
    claim_delivery,
    confirm,
    give_back_delivery,
    note_sent,
    postpone,
    results_lost,
    sent_names,
    uncommitted,
)
from dicom_node.ledger.jobs import LeaseLost
from dicom_node.ledger.leases import Heartbeat, settle_delivery_fault
from dicom_node.ledger.model import Delivery
from dicom_node.ledger.operations import wants_at_once
from dicom_node.logs import bound, get_logger, short_hash
from dicom_node.sending.depot import Depot
from dicom_node.sending.outcome import SendResult, is_absence, not_stored
from dicom_node.sending.ports import (
    CommittingSession,
    Report,
    Session,
    ShouldStop,
)
from dicom_node.sending.transfer import count, told_transfer
from dicom_node.settings import PeerSettings

log = get_logger(__name__)

NOTED_TOGETHER = 50
"""So many images are noted in the ledger at once; a crash costs no more than sending them again."""

REPORT_SECONDS = 1.0
"""How long a report on storage commitment is waited for on the association that asked for it."""

LONGEST_ABSENCE_SECONDS = 300.0
"""A destination that is away is called at least so often: it gets its images soon after it is back,
however long it was away."""


class Courier:
    """Brings deliveries to one destination.

    Args:
        destination: Its name in the configuration, or one that has left it.
        depot: What it works with.
    """

    def __init__(self, destination: str, depot: Depot) -> None:
        self._destination, self._depot = destination, depot
        self._ledger, self._owner, self._clock = depot.ledger, depot.owner, depot.clock
        self._absences = 0
        self._away_until = 0.0

    @property
    def is_away(self) -> bool:
        """Whether the destination was away a moment ago; a clock set back ends the wait."""
        wait = self._away_until - self._clock()
        return 0 < wait <= LONGEST_ABSENCE_SECONDS

    def is_due(self) -> bool:
        """Return whether to call: the destination was not just away, or an operator asks for it.

        Raises:
            StorageError: The ledger cannot be used.
        """
        return not self.is_away or wants_at_once(self._ledger, self._destination)

    def deliver(self, should_stop: ShouldStop) -> bool:
        """Make the next delivery; returns whether there was one.

        Only what the destination has not yet is sent. Whatever goes wrong is settled in the ledger.

        Raises:
            StorageError: The ledger cannot be used.
        """
        if not self.is_due():
            return False
        now = self._clock()
        delivery = claim_delivery(self._ledger, self._destination, owner=self._owner, now=now)
        if delivery is None:
            return False
        with (
            bound(job=delivery.job_id, series=short_hash(delivery.series_uid)),
            Heartbeat(self._ledger, delivery, owner=self._owner) as beat,
        ):
            try:
                self._attempt(delivery, lambda: should_stop() or beat.lost.is_set())
            except LeaseLost:
                log.warning("delivery left to its new owner", destination=self._destination)
        return True

    def _attempt(self, delivery: Delivery, stopped: ShouldStop) -> None:
        begin = time.perf_counter()
        files = {path.name: path for path in self._depot.outbox.committed(delivery.token)}
        if len(files) != delivery.derived_count:
            job_id, now = delivery.job_id, self._clock()
            lost = results_lost(self._ledger, job_id, owner=self._owner, now=now)
            log.error("job stopped", state=lost.state, reason=lost.reason)
            return
        try:
            self._hand_over(delivery, files, stopped)
        except LeaseLost:
            raise
        except Exception as error:
            self._settle(delivery, error)
        else:
            self._absences, self._away_until = 0, 0.0
            telemetry.stage_seconds("send", time.perf_counter() - begin)

    def _hand_over(
        self, delivery: Delivery, files: Mapping[str, Path], stopped: ShouldStop
    ) -> None:
        peer = self._depot.settings.peer(self._destination)
        sent = sent_names(self._ledger, delivery.id)
        missing = [path for name, path in files.items() if name not in sent]
        transport = self._depot.transport
        if isinstance(peer, PeerSettings) and peer.storage_commitment:
            with transport.open_committing(peer, missing) as committing:
                if self._send(delivery, committing, missing, stopped):
                    self._commit(delivery, peer, committing, files)
            return
        with transport.open(peer, missing) as session:
            complete = self._send(delivery, session, missing, stopped)
        if complete:
            confirm(self._ledger, delivery.id, owner=self._owner, now=self._clock())
            log.info("delivery confirmed", destination=self._destination)

    def _send(
        self, delivery: Delivery, session: Session, missing: Sequence[Path], stopped: ShouldStop
    ) -> bool:
        """Send what is missing; False when told to stop before the end and given back."""
        begin = time.perf_counter()
        peer = self._depot.settings.peer(self._destination)
        results: list[SendResult] = []
        with told_transfer(self._depot.audit, peer, missing, results):
            self._transfer(delivery, session, stopped, results)
        if not all(result.ok for result in results):
            raise not_stored(self._destination, results)
        if len(results) < len(missing):
            give_back_delivery(self._ledger, delivery.id, owner=self._owner, now=self._clock())
            log.info("delivery given back", destination=self._destination)
            return False
        seconds = round(time.perf_counter() - begin, 2)
        log.info("images sent", destination=self._destination, images=len(results), seconds=seconds)
        return True

    def _transfer(
        self,
        delivery: Delivery,
        session: Session,
        stopped: ShouldStop,
        results: list[SendResult],
    ) -> None:
        """Send, and note what has arrived, also when the connection breaks in between."""
        noted = 0
        try:
            for result in session.send(stopped):
                count(self._destination, result)
                results.append(result)
                if len(results) - noted >= NOTED_TOGETHER:
                    self._note(delivery, results[noted:])
                    noted = len(results)
        finally:
            self._note(delivery, results[noted:])

    def _note(self, delivery: Delivery, results: Sequence[SendResult]) -> None:
        sent = {
            result.path.name: Sent(result.sop_instance_uid, result.status or SUCCESS)
            for result in results
            if result.ok
        }
        if sent:
            now = self._clock()
            note_sent(self._ledger, delivery.id, owner=self._owner, sent=sent, now=now)

    def _commit(
        self,
        delivery: Delivery,
        peer: PeerSettings,
        session: CommittingSession,
        files: Mapping[str, Path],
    ) -> None:
        """Ask for storage commitment to everything that the destination has stored."""
        stored = uncommitted(self._ledger, delivery.id)
        # 2.25 and a random UUID is a UID of nobody's root (PS3.5, B.2).
        uid = f"2.25.{uuid.uuid4().int}"
        id_, owner = delivery.id, self._owner
        begin_commitment(self._ledger, id_, owner=owner, transaction_uid=uid, now=self._clock())
        session.ask_commitment(
            uid,
            [files[name] for name in stored],
            on_report=self._take_report,
            wait_seconds=REPORT_SECONDS,
        )
        now = self._clock()
        settled = await_commitment(
            self._ledger,
            id_,
            owner=owner,
            transaction_uid=uid,
            deadline=now + peer.commitment_seconds,
            now=now,
        )
        log.info("commitment asked", destination=self._destination, state=settled.state)

    def _take_report(self, told: Report) -> int:
        """Enter a report that came on the association of the request; the status to answer."""
        known = report(
            self._ledger,
            told.transaction_uid,
            committed=told.committed,
            failed=told.failed,
            now=self._clock(),
            retry=self._depot.settings.retry,
        )
        return SUCCESS if known else NO_SUCH_SOP_INSTANCE

    def _settle(self, delivery: Delivery, error: Exception) -> None:
        retry, now = self._depot.settings.retry, self._clock()
        if not is_absence(error):
            settle_delivery_fault(
                self._ledger, delivery, error, owner=self._owner, retry=retry, now=now
            )
            return
        # It is the destination that is away, not this delivery that is wrong: no attempt is spent,
        # and the deliveries behind it need not find out for themselves.
        self._absences += 1
        self._away_until = now + min(retry.delay_seconds(self._absences), LONGEST_ABSENCE_SECONDS)
        postpone(
            self._ledger,
            delivery.id,
            owner=self._owner,
            reason=str(error),
            next_at=self._away_until,
            now=now,
            counted=False,
        )
        log.warning(
            "destination away",
            destination=self._destination,
            calls=self._absences,
            seconds=round(self._away_until - now),
            reason=str(error),
        )

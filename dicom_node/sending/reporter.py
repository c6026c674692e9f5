"""The reporter tells peers which images, of those they asked about, this node holds."""

from __future__ import annotations

from dicom_node.errors import NodeError
from dicom_node.ledger.commitment_requests import (
    PendingReport,
    claim_report,
    held,
    report_later,
    reported,
)
from dicom_node.ledger.jobs import LeaseLost
from dicom_node.logs import get_logger
from dicom_node.sending.depot import Depot
from dicom_node.settings import PeerSettings

log = get_logger(__name__)

MOST_ATTEMPTS = 100
"""With an hour between two, a peer may be away for days; after that it has to ask again."""


class Reporter:
    """Answers requests for storage commitment (PS3.4, annex J), each on its own association.

    Args:
        depot: What it works with.
    """

    def __init__(self, depot: Depot) -> None:
        self._depot = depot

    def report(self) -> bool:
        """Answer the next request; returns whether there was one.

        Raises:
            StorageError: The ledger cannot be used.
        """
        depot = self._depot
        pending = claim_report(depot.ledger, owner=depot.owner, now=depot.clock())
        if pending is None:
            return False
        try:
            self._answer(pending)
        except LeaseLost:
            log.warning("report left to its new owner", peer=pending.requester)
        return True

    def _answer(self, pending: PendingReport) -> None:
        depot = self._depot
        peer = self._peer(pending.requester)
        if peer is None:
            log.warning(
                "no report on storage commitment: no peer has this AE title, name one in node.yaml",
                peer=pending.requester,
            )
            self._end(pending)
            return
        found = held(depot.ledger, [sop_uid for _, sop_uid in pending.items])
        try:
            depot.transport.report(peer, pending.transaction_uid, pending.items, found)
        except NodeError as error:
            self._put_off(pending, error)
        else:
            self._end(pending)
            log.info(
                "commitment reported", peer=peer.name, asked=len(pending.items), held=len(found)
            )

    def _peer(self, ae_title: str) -> PeerSettings | None:
        for peer in self._depot.settings.peers:
            if isinstance(peer, PeerSettings) and peer.ae_title == ae_title:
                return peer
        return None

    def _put_off(self, pending: PendingReport, error: NodeError) -> None:
        depot = self._depot
        log.warning("commitment not reported", peer=pending.requester, reason=str(error))
        if pending.attempts >= MOST_ATTEMPTS:
            self._end(pending)
            return
        next_at = depot.clock() + depot.settings.retry.delay_seconds(pending.attempts)
        report_later(depot.ledger, pending.id, owner=depot.owner, next_at=next_at)

    def _end(self, pending: PendingReport) -> None:
        depot = self._depot
        reported(depot.ledger, pending.id, owner=depot.owner, now=depot.clock())

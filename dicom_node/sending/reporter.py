"""Reports on storage commitment to the peers that asked this node for it."""

from __future__ import annotations

from dicom_node.errors import NodeError
from dicom_node.ledger.claim import LeaseLost
from dicom_node.ledger.commitment_requests import ReportClaim, claim_report, held
from dicom_node.ledger.leases import Heartbeat
from dicom_node.logs import get_logger
from dicom_node.sending.courier import SendingContext
from dicom_node.settings import PeerSettings

log = get_logger(__name__)


class Reporter:
    """Reports which of the instances that a peer asked about this node holds (PS3.4, annex J).

    Each report goes out on an association of its own.

    Args:
        context: The resources of this process.
    """

    def __init__(self, context: SendingContext) -> None:
        self._context = context

    def report(self) -> bool:
        """Answer the next request; return whether there was one.

        Raises:
            StorageError: The ledger cannot be used.
        """
        context = self._context
        claim = claim_report(context.ledger, owner=context.owner, clock=context.clock)
        if claim is None:
            return False
        with Heartbeat(claim):
            try:
                self._answer(claim)
            except LeaseLost:
                log.warning("report left to its new owner", peer=claim.request.requester)
        return True

    def _answer(self, claim: ReportClaim) -> None:
        request, context = claim.request, self._context
        peer = self._peer(request.requester)
        if peer is None:
            log.warning(
                "no report on storage commitment: no peer has this AE title, name one in node.yaml",
                peer=request.requester,
            )
            claim.reported()
            return
        found = held(context.ledger, [sop_uid for _, sop_uid in request.items])
        try:
            context.transport.report(peer, request.transaction_uid, request.items, found)
        except NodeError as error:
            log.warning("commitment not reported", peer=request.requester, reason=str(error))
            claim.settle(error, context.settings.retry)
        else:
            claim.reported()
            log.info(
                "commitment reported", peer=peer.name, asked=len(request.items), held=len(found)
            )

    def _peer(self, ae_title: str) -> PeerSettings | None:
        for peer in self._context.settings.peers:
            if isinstance(peer, PeerSettings) and peer.ae_title == ae_title:
                return peer
        return None

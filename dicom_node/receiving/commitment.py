"""Storage Commitment SCP of the receiver, and reports on this node's own requests (PS3.4, annex J).

A request is recorded before it is answered; the sender reports later, on an association of its own.
Only a peer of the configuration can be reported to, so only such a peer may request. Reports on
requests of this node arrive here when the peer opens an association for them, perhaps days later.
"""

from __future__ import annotations

import time

from dicom_node.dimse.command import N_ACTION_RQ, N_EVENT_REPORT_RQ
from dicom_node.dimse.commitment import (
    ALL_COMMITTED,
    FAILURES_EXIST,
    REQUEST_COMMITMENT,
    STORAGE_COMMITMENT,
    TRANSFER_SYNTAXES,
    WELL_KNOWN_INSTANCE,
    CommitmentReport,
    MalformedCommitment,
    read_report,
    read_request,
)
from dicom_node.dimse.services import Request, Service
from dicom_node.dimse.status import (
    INVALID_ARGUMENT_VALUE,
    NO_SUCH_ACTION,
    NO_SUCH_EVENT_TYPE,
    NO_SUCH_SOP_INSTANCE,
    NOT_AUTHORIZED,
    PROCESSING_FAILURE,
    SUCCESS,
    status_text,
)
from dicom_node.errors import StorageError
from dicom_node.ledger.commitment_requests import accept_request
from dicom_node.ledger.commitments import report
from dicom_node.ledger.engine import Ledger
from dicom_node.logs import get_logger
from dicom_node.settings import PeerSettings, Settings

log = get_logger(__name__)


def commitment_service(settings: Settings, ledger: Ledger) -> Service:
    """Service for peers that request commitment, and for peers that report on our requests."""
    handlers = _Handlers(settings, ledger)
    return Service(
        sop_class_uid=STORAGE_COMMITMENT,
        transfer_syntaxes=TRANSFER_SYNTAXES,
        handlers={N_ACTION_RQ: handlers.on_request, N_EVENT_REPORT_RQ: handlers.on_report},
        scu_role=True,
        scp_role=True,
    )


class _Handlers:
    """Handlers of N-ACTION and N-EVENT-REPORT.

    Args:
        settings: Peers that may request commitment.
        ledger: Ledger in which requests and reports are recorded.
    """

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._ledger, self._retry = ledger, settings.retry
        self._requesters = {
            peer.ae_title for peer in settings.peers if isinstance(peer, PeerSettings)
        }

    def on_request(self, request: Request) -> int:
        """Record an N-ACTION and return the status to answer with."""
        peer = request.caller.ae_title
        if request.sop_instance_uid != WELL_KNOWN_INSTANCE:
            return _refused(NO_SUCH_SOP_INSTANCE, peer, "the request is about another SOP instance")
        if request.action_type != REQUEST_COMMITMENT:
            return _refused(NO_SUCH_ACTION, peer, f"action type {request.action_type} is unknown")
        if peer not in self._requesters:
            return _refused(NOT_AUTHORIZED, peer, "no peer in node.yaml has this AE title")
        try:
            wanted = read_request(request.data, request.context.transfer_syntax)
            accept_request(
                self._ledger,
                transaction_uid=wanted.transaction_uid,
                requester=peer,
                items=wanted.items,
                now=time.time(),
            )
        except MalformedCommitment as error:
            return _refused(error.status, peer, str(error))
        except StorageError as error:
            return _refused(PROCESSING_FAILURE, peer, str(error))
        log.info("storage commitment asked for", peer=peer, images=len(wanted.items))
        return SUCCESS

    def on_report(self, request: Request) -> int:
        """Record an N-EVENT-REPORT and return the status to answer with."""
        peer = request.caller.ae_title
        if request.sop_instance_uid != WELL_KNOWN_INSTANCE:
            return _refused(NO_SUCH_SOP_INSTANCE, peer, "the report is about another SOP instance")
        if request.event_type not in (ALL_COMMITTED, FAILURES_EXIST):
            return _refused(NO_SUCH_EVENT_TYPE, peer, f"event type {request.event_type} is unknown")
        try:
            received = read_report(request.data, request.context.transfer_syntax)
            known = self._record(received)
        except MalformedCommitment as error:
            return _refused(error.status, peer, str(error))
        except StorageError as error:
            return _refused(PROCESSING_FAILURE, peer, str(error))
        if not known:
            return _refused(INVALID_ARGUMENT_VALUE, peer, "this node has no such transaction")
        committed, failed = len(received.committed), len(received.failed)
        log.info("storage commitment reported", peer=peer, committed=committed, failed=failed)
        return SUCCESS

    def _record(self, received: CommitmentReport) -> bool:
        return report(
            self._ledger,
            received.transaction_uid,
            committed=received.committed,
            failed=received.failed,
            now=time.time(),
            retry=self._retry,
        )


def _refused(status: int, peer: str, reason: str) -> int:
    log.warning("storage commitment refused", peer=peer, status=status_text(status), reason=reason)
    return status

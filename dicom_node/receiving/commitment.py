"""Storage commitment at the receiver: requests to this node, and reports to it (PS3.4, annex J).

A request is written down before it is answered; the report goes out later, from the sender, on an
association of its own. Only a peer that the configuration knows can be reported to, so only such
a peer may ask. A report on what this node asked for comes here when the peer opens an association
for it, which may be days later.
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
    """What the receiver serves: peers that ask for commitment, and peers that report on ours."""
    desk = _Desk(settings, ledger)
    return Service(
        sop_class_uid=STORAGE_COMMITMENT,
        transfer_syntaxes=TRANSFER_SYNTAXES,
        handlers={N_ACTION_RQ: desk.on_request, N_EVENT_REPORT_RQ: desk.on_report},
        scu_role=True,
        scp_role=True,
    )


class _Desk:
    """Answers for the receiver.

    Args:
        settings: The peers that may ask.
        ledger: Where what is asked and reported is recorded.
    """

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._ledger, self._retry = ledger, settings.retry
        self._askers = {peer.ae_title for peer in settings.peers if isinstance(peer, PeerSettings)}

    def on_request(self, request: Request) -> int:
        """Answer an N-ACTION."""
        peer = request.caller.ae_title
        if request.sop_instance_uid != WELL_KNOWN_INSTANCE:
            return _refused(NO_SUCH_SOP_INSTANCE, peer, "the request is about another SOP instance")
        if request.action_type != REQUEST_COMMITMENT:
            return _refused(NO_SUCH_ACTION, peer, f"action type {request.action_type} is unknown")
        if peer not in self._askers:
            return _refused(NOT_AUTHORIZED, peer, "no peer in node.yaml has this AE title")
        try:
            asked = read_request(request.data, request.context.transfer_syntax)
            accept_request(
                self._ledger,
                transaction_uid=asked.transaction_uid,
                requester=peer,
                items=asked.items,
                now=time.time(),
            )
        except MalformedCommitment as error:
            return _refused(error.status, peer, str(error))
        except StorageError as error:
            return _refused(PROCESSING_FAILURE, peer, str(error))
        log.info("storage commitment asked for", peer=peer, images=len(asked.items))
        return SUCCESS

    def on_report(self, request: Request) -> int:
        """Answer an N-EVENT-REPORT that came on an association of its own."""
        peer = request.caller.ae_title
        if request.sop_instance_uid != WELL_KNOWN_INSTANCE:
            return _refused(NO_SUCH_SOP_INSTANCE, peer, "the report is about another SOP instance")
        if request.event_type not in (ALL_COMMITTED, FAILURES_EXIST):
            return _refused(NO_SUCH_EVENT_TYPE, peer, f"event type {request.event_type} is unknown")
        try:
            said = read_report(request.data, request.context.transfer_syntax)
            known = self._enter(said)
        except MalformedCommitment as error:
            return _refused(error.status, peer, str(error))
        except StorageError as error:
            return _refused(PROCESSING_FAILURE, peer, str(error))
        if not known:
            return _refused(INVALID_ARGUMENT_VALUE, peer, "this node has no such transaction")
        committed, failed = len(said.committed), len(said.failed)
        log.info("storage commitment reported", peer=peer, committed=committed, failed=failed)
        return SUCCESS

    def _enter(self, said: CommitmentReport) -> bool:
        return report(
            self._ledger,
            said.transaction_uid,
            committed=said.committed,
            failed=said.failed,
            now=time.time(),
            retry=self._retry,
        )


def _refused(status: int, peer: str, reason: str) -> int:
    log.warning("storage commitment refused", peer=peer, status=status_text(status), reason=reason)
    return status

"""Storage commitment over this node's own associations: requests and reports (PS3.4, annex J)."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.dimse.association import Association, associate
from dicom_node.dimse.command import N_ACTION_RQ, N_EVENT_REPORT_RQ, Command
from dicom_node.dimse.commitment import (
    ALL_COMMITTED,
    FAILURES_EXIST,
    REQUEST_COMMITMENT,
    STORAGE_COMMITMENT,
    TRANSFER_SYNTAXES,
    WELL_KNOWN_INSTANCE,
    CommitmentReport,
    Item,
    MalformedCommitment,
    read_report,
    write_report,
    write_request,
)
from dicom_node.dimse.connection import ConnectionLost
from dicom_node.dimse.message import Message
from dicom_node.dimse.peer import Peer, describe
from dicom_node.dimse.proposal import AcceptedContext
from dicom_node.dimse.status import (
    NO_SUCH_EVENT_TYPE,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    SUCCESS,
    UNRECOGNIZED_OPERATION,
    status_text,
)
from dicom_node.errors import PeerError

OnReport = Callable[[CommitmentReport], int]
"""Handler of a report; returns the status to answer with."""

_TRANSIENT = frozenset({PROCESSING_FAILURE, RESOURCE_LIMITATION})

_REQUEST = Command(
    field=N_ACTION_RQ,
    requested_class=STORAGE_COMMITMENT,
    requested_instance=WELL_KNOWN_INSTANCE,
    action_type=REQUEST_COMMITMENT,
)


def commitment_context() -> PresentationContext:
    """Build the presentation context to propose for storage commitment."""
    return build_context(STORAGE_COMMITMENT, list(TRANSFER_SYNTAXES))


def ask_commitment(
    association: Association,
    peer: Peer,
    transaction_uid: str,
    items: Sequence[Item],
    *,
    on_report: OnReport,
    wait_seconds: float,
) -> None:
    """Request commitment to instances (N-ACTION) and wait briefly for the report.

    Args:
        association: Association with the peer.
        peer: The peer, for error messages.
        transaction_uid: Transaction UID of the report to come.
        items: Instances to commit to.
        on_report: Called with a report that arrives on this association.
        wait_seconds: Time to wait here; the report may arrive later on another association.

    Raises:
        PeerError: The peer does not accept the request.
        ConnectionLost: The peer sent no response to the request.
    """
    context = association.context(STORAGE_COMMITMENT)
    if context is None:
        raise PeerError(
            f"{describe(peer)} offers no storage commitment: set `storage_commitment: false` for"
            " it, or switch it on there.",
            transient=False,
        )
    reports: list[CommitmentReport] = []
    association.on_request = _listener(transaction_uid, reports, on_report)
    data_set = write_request(transaction_uid, items, context.transfer_syntax)
    status = association.request(context, _REQUEST, data_set).status
    if status != SUCCESS:
        raise _not_accepted(peer, "request for", status, transient=status in _TRANSIENT)
    with suppress(ConnectionLost):  # a peer that hangs up now reports on another association
        association.serve_until(lambda: bool(reports), wait_seconds)


def report_commitment(
    peer: Peer,
    transaction_uid: str,
    items: Sequence[Item],
    held: Collection[str],
    *,
    calling_ae: str,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Report to a peer which instances are committed (N-EVENT-REPORT on a new association).

    Args:
        peer: The peer that requested commitment.
        transaction_uid: Transaction UID of its request.
        items: Instances of its request.
        held: SOP Instance UIDs, of those, that this node holds.
        calling_ae: This node's AE title.
        tls: TLS context; None for a plain connection.

    Raises:
        PeerError: The peer cannot be reached or does not accept the report.
    """
    with associate(
        peer,
        [commitment_context()],
        calling_ae=calling_ae,
        tls=tls,
        provided=[STORAGE_COMMITMENT],
    ) as association:
        context = association.context(STORAGE_COMMITMENT)
        assert context is not None  # `associate` returns none without an accepted context
        event_type, data_set = write_report(transaction_uid, items, held, context.transfer_syntax)
        report = Command(
            field=N_EVENT_REPORT_RQ,
            affected_class=STORAGE_COMMITMENT,
            affected_instance=WELL_KNOWN_INSTANCE,
            event_type=event_type,
        )
        status = association.request(context, report, data_set).status
    if status != SUCCESS:
        raise _not_accepted(peer, "report on", status, transient=True)


def _not_accepted(peer: Peer, what: str, status: int | None, *, transient: bool) -> PeerError:
    return PeerError(
        f"{describe(peer)} does not accept the {what} storage commitment"
        f" (status {status_text(status)}).",
        transient=transient,
    )


def _listener(
    transaction_uid: str, reports: list[CommitmentReport], on_report: OnReport
) -> Callable[[AcceptedContext, Message], int]:
    """Make a handler of reports that also collects the one of this transaction."""

    def take(context: AcceptedContext, message: Message) -> int:
        if message.command.field != N_EVENT_REPORT_RQ or context.sop_class != STORAGE_COMMITMENT:
            return UNRECOGNIZED_OPERATION
        if message.command.event_type not in (ALL_COMMITTED, FAILURES_EXIST):
            return NO_SUCH_EVENT_TYPE
        try:
            report = read_report(message.data_set, context.transfer_syntax)
        except MalformedCommitment as error:
            return error.status
        status = on_report(report)
        if report.transaction_uid == transaction_uid:
            reports.append(report)
        return status

    return take

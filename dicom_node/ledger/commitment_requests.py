"""Storage commitment requests of peers to this node (PS3.4 annex J, as SCP).

A request is in the ledger before it is answered; a report is owed until the peer has taken it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from dicom_node.ledger.claim import LEASE_SECONDS, Claim, Clock, take
from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.fault import Fault
from dicom_node.ledger.tables import CommitmentRequestRow, InstanceRow
from dicom_node.settings import RetrySettings

MAX_REPORT_ATTEMPTS = 100
"""With an hour between two, a peer may be away for days; after that it has to ask again."""


@dataclass(frozen=True)
class CommitmentRequest:
    """A peer's request that this node commit to instances.

    Attributes:
        requester: AE title of the peer.
        items: SOP Class UID and SOP Instance UID of each image asked for.
        attempts: Claims, this one included.
    """

    id: int
    transaction_uid: str
    requester: str
    items: tuple[tuple[str, str], ...]
    attempts: int


@repeated
def accept_request(
    ledger: Ledger,
    *,
    transaction_uid: str,
    requester: str,
    items: Sequence[tuple[str, str]],
    now: float,
) -> None:
    """Record a peer's request for commitment; the same request again changes nothing.

    Args:
        ledger: The ledger.
        transaction_uid: Of the request.
        requester: AE title of the peer.
        items: SOP Class UID and SOP Instance UID of each image.
        now: Seconds since 1970.
    """
    with ledger.write() as session:
        known = select(CommitmentRequestRow.id).where(
            CommitmentRequestRow.transaction_uid == transaction_uid,
            CommitmentRequestRow.requester == requester,
        )
        if session.scalar(known) is not None:
            return
        session.add(
            CommitmentRequestRow(
                transaction_uid=transaction_uid,
                requester=requester,
                items=json.dumps([list(item) for item in items]),
                received_at=now,
                next_at=now,
            )
        )


def claim_report(ledger: Ledger, *, owner: str, clock: Clock = time.time) -> ReportClaim | None:
    """Claim the next report that is owed to a peer; nobody else gets it while the lease lasts."""
    request = _claimed(ledger, owner=owner, now=clock())
    if request is None:
        return None
    return ReportClaim(ledger=ledger, owner=owner, clock=clock, request=request)


@repeated
def _claimed(ledger: Ledger, *, owner: str, now: float) -> CommitmentRequest | None:
    free = or_(CommitmentRequestRow.lease_until.is_(None), CommitmentRequestRow.lease_until < now)
    next_one = (
        select(CommitmentRequestRow.id)
        .where(
            CommitmentRequestRow.reported_at.is_(None), CommitmentRequestRow.next_at <= now, free
        )
        .order_by(CommitmentRequestRow.next_at, CommitmentRequestRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    taking = take(CommitmentRequestRow, next_one, free, owner=owner, until=now + LEASE_SECONDS)
    with ledger.write() as session:
        row = session.scalar(taking)
        if row is None:
            return None
        items = tuple((class_uid, sop_uid) for class_uid, sop_uid in json.loads(row.items))
        return CommitmentRequest(row.id, row.transaction_uid, row.requester, items, row.attempts)


@dataclass(frozen=True, kw_only=True)
class ReportClaim(Claim[CommitmentRequestRow, None]):
    """A report in the hands of the process that brings it to the peer.

    Attributes:
        request: The request when its report was claimed.
    """

    request: CommitmentRequest

    table = CommitmentRequestRow

    @property
    def id(self) -> int:
        """Number of the request."""
        return self.request.id

    def __str__(self) -> str:
        return "The report on storage commitment"

    def reported(self) -> None:
        """Note that the peer has taken the report.

        Raises:
            LeaseLost: The report is no longer this owner's.
        """
        now = self.clock()

        def act(_session: Session, row: CommitmentRequestRow) -> None:
            row.reported_at, row.owner, row.lease_until = now, None, None

        self.change(act)

    def retry_later(self, reason: str, *, delay_seconds: float, counted: bool = True) -> None:
        """Report after a pause; a request keeps no reason, and every attempt counts."""
        del reason, counted
        next_at = self.clock() + delay_seconds

        def act(_session: Session, row: CommitmentRequestRow) -> None:
            row.next_at, row.owner, row.lease_until = next_at, None, None

        self.change(act)

    def fail(self, reason: str) -> None:
        """End the request without a report: the peer has to ask again."""
        del reason
        self.reported()

    def fault(self, error: Exception, retry: RetrySettings) -> Fault:
        """Judge an error of reporting: whatever it is, the peer may be there later."""
        attempts = self.request.attempts
        delay = retry.delay_seconds(attempts)
        return Fault(str(error), attempts < MAX_REPORT_ATTEMPTS, counted=True, delay_seconds=delay)

    def locked(self, session: Session) -> CommitmentRequestRow | None:
        """Lock the request's row."""
        return session.get(CommitmentRequestRow, self.id, with_for_update=True)


def held(ledger: Ledger, sop_uids: Collection[str]) -> set[str]:
    """Return those of these SOP Instance UIDs that this node has received and still keeps."""
    chosen = select(InstanceRow.sop_uid).where(
        InstanceRow.sop_uid.in_(sop_uids), InstanceRow.purged.is_(False)
    )
    with ledger.read() as session:
        return set(session.scalars(chosen))

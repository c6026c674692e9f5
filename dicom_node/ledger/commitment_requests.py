"""Storage commitment that peers ask of this node (PS3.4 annex J, as SCP).

A request is in the ledger before it is answered; a report is owed until the peer has taken it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.jobs import LEASE_SECONDS, LeaseLost
from dicom_node.ledger.tables import CommitmentRequestRow, InstanceRow


@dataclass(frozen=True)
class PendingReport:
    """What a peer asked this node to commit to, claimed to be answered.

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
    """Enter a peer's request for commitment; the same request again changes nothing.

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


@repeated
def claim_report(
    ledger: Ledger, *, owner: str, lease_seconds: float = LEASE_SECONDS, now: float
) -> PendingReport | None:
    """Take the next report that is owed to a peer; nobody else gets it while the lease lasts."""
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
    take = (
        update(CommitmentRequestRow)
        .where(CommitmentRequestRow.id == next_one, free)
        .values(
            owner=owner, lease_until=now + lease_seconds, attempts=CommitmentRequestRow.attempts + 1
        )
        .returning(CommitmentRequestRow)
        .execution_options(synchronize_session=False)
    )
    with ledger.write() as session:
        row = session.scalar(take)
        if row is None:
            return None
        items = tuple((class_uid, sop_uid) for class_uid, sop_uid in json.loads(row.items))
        return PendingReport(row.id, row.transaction_uid, row.requester, items, row.attempts)


@repeated
def reported(ledger: Ledger, report_id: int, *, owner: str, now: float) -> None:
    """The peer has taken its report; raises ``LeaseLost`` when it is not this owner's."""
    with ledger.write() as session:
        row = _owed(session, report_id, owner)
        row.reported_at, row.owner, row.lease_until = now, None, None


@repeated
def report_later(ledger: Ledger, report_id: int, *, owner: str, next_at: float) -> None:
    """The peer could not be told; raises ``LeaseLost`` when the report is not this owner's."""
    with ledger.write() as session:
        row = _owed(session, report_id, owner)
        row.next_at, row.owner, row.lease_until = next_at, None, None


def held(ledger: Ledger, sop_uids: Collection[str]) -> set[str]:
    """Which of these SOP Instance UIDs this node has received and still keeps."""
    chosen = select(InstanceRow.sop_uid).where(
        InstanceRow.sop_uid.in_(sop_uids), InstanceRow.purged.is_(False)
    )
    with ledger.read() as session:
        return set(session.scalars(chosen))


def _owed(session: Session, report_id: int, owner: str) -> CommitmentRequestRow:
    row = session.get(CommitmentRequestRow, report_id, with_for_update=True)
    if row is None or row.owner != owner:
        raise LeaseLost("the report no longer belongs to this process.")
    return row

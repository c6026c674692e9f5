"""Storage commitment requests of this node to its destinations (PS3.4 annex J, as SCU).

A request is in the ledger before it is sent, so that no report is ever unknown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.history import move_delivery
from dicom_node.ledger.model import Delivery, delivery_of
from dicom_node.ledger.rollup import lock_delivery, roll_up
from dicom_node.ledger.states import DeliveryState
from dicom_node.ledger.tables import CommitmentRow, DeliveryRow, SentRow
from dicom_node.settings import RetrySettings

DEFAULT_RETRY = RetrySettings()


@repeated
def report(
    ledger: Ledger,
    transaction_uid: str,
    *,
    committed: Collection[str],
    failed: Mapping[str, int],
    now: float,
    retry: RetrySettings = DEFAULT_RETRY,
) -> bool:
    """Record the report of a destination; it may come early, late, and more than once.

    When the destination has now committed to every image, the delivery is CONFIRMED. Images to
    which it could not commit are sent again: the delivery is PENDING, or REFUSED
    once its attempts are spent.

    Args:
        ledger: The ledger.
        transaction_uid: Of the request.
        committed: SOP Instance UIDs to which the destination commits.
        failed: SOP Instance UID to failure reason (PS3.3 section C.14.1.1) of the others.
        now: Seconds since 1970.
        retry: Number and delays of the attempts.

    Returns:
        False when no request has this transaction UID.
    """
    asked = select(CommitmentRow).where(CommitmentRow.transaction_uid == transaction_uid)
    with ledger.write() as session:
        request = session.scalar(asked)
        row = lock_delivery(session, request.delivery_id) if request else None
        if request is None or row is None:
            return False
        if request.answered_at is None:
            request.answered_at = now
            _keep(session, row, committed, set(failed) - set(committed), now)
            _settle(session, row, request, len(failed), retry, now)
        return True


@repeated
def overdue(ledger: Ledger, *, now: float, retry: RetrySettings = DEFAULT_RETRY) -> list[Delivery]:
    """Return deliveries with an overdue report to PENDING, to request commitment again.

    Nothing is sent again: the stored images stay noted. No attempt is spent, since the destination
    may be away.
    """
    late = select(DeliveryRow.id).where(
        DeliveryRow.state == DeliveryState.COMMITTING, DeliveryRow.next_at <= now
    )
    with ledger.read() as session:
        ids = session.scalars(late).all()
    given_up = (_give_up(ledger, id_, now=now, retry=retry) for id_ in ids)
    return [delivery for delivery in given_up if delivery is not None]


@repeated
def _give_up(
    ledger: Ledger, delivery_id: int, *, now: float, retry: RetrySettings
) -> Delivery | None:
    with ledger.write() as session:
        row = lock_delivery(session, delivery_id)
        if row is None or row.state != DeliveryState.COMMITTING or row.next_at > now:
            return None
        row.next_at = now + retry.delay_seconds(row.attempts + row.waits)
        row.attempts, row.waits = row.attempts - 1, row.waits + 1
        reason = f"{row.destination} has not reported whether it commits to the images"
        move_delivery(session, row, DeliveryState.PENDING, now=now, reason=reason)
        roll_up(session, row.job, now=now)
        return delivery_of(row)


def _keep(
    session: Session, row: DeliveryRow, committed: Collection[str], failed: set[str], now: float
) -> None:
    of_delivery = SentRow.delivery_id == row.id
    session.execute(
        update(SentRow).where(of_delivery, SentRow.sop_uid.in_(committed)).values(committed_at=now)
    )
    session.execute(delete(SentRow).where(of_delivery, SentRow.sop_uid.in_(failed)))


def _settle(
    session: Session,
    row: DeliveryRow,
    request: CommitmentRow,
    failures: int,
    retry: RetrySettings,
    now: float,
) -> None:
    """Bring a delivery into the state that follows from a report."""
    if row.state == DeliveryState.CONFIRMED:
        return
    kept = select(func.count()).where(
        SentRow.delivery_id == row.id, SentRow.committed_at.is_not(None)
    )
    newest = session.scalar(
        select(func.max(CommitmentRow.id)).where(CommitmentRow.delivery_id == row.id)
    )
    if row.job.derived_count and session.scalar(kept) == row.job.derived_count:
        row.confirmed_at = now
        move_delivery(session, row, DeliveryState.CONFIRMED, now=now)
        roll_up(session, row.job, now=now)
    elif row.state in (DeliveryState.SENDING, DeliveryState.COMMITTING) and request.id == newest:
        reason = f"{row.destination} did not commit to {failures} images"
        _wait_or_refuse(session, row, reason, retry, now)


def _wait_or_refuse(
    session: Session, row: DeliveryRow, reason: str, retry: RetrySettings, now: float
) -> None:
    if row.attempts < retry.attempts:
        row.next_at = now + retry.delay_seconds(row.attempts)
        move_delivery(session, row, DeliveryState.PENDING, now=now, reason=reason)
    else:
        spent = f"{reason} (after {row.attempts} attempts)"
        move_delivery(session, row, DeliveryState.REFUSED, now=now, reason=spent)
    roll_up(session, row.job, now=now)

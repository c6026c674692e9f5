"""Deliveries as their owners see them: the results of one job on their way to one destination.

A delivery is leased as a job is: claimed by one process, kept by a heartbeat, ended by name. One
destination that is away holds up no other. Every move rolls up into the state of the job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import ScalarSelect, and_, or_, select, update
from sqlalchemy.orm import Session

from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.history import move_delivery, move_job, note
from dicom_node.ledger.jobs import LEASE_SECONDS, LeaseLost
from dicom_node.ledger.model import Delivery, Job, delivery_of, job_of, stored_count
from dicom_node.ledger.rollup import roll_up
from dicom_node.ledger.series import CLOCK_SLACK_SECONDS
from dicom_node.ledger.states import SENDABLE, DeliveryState, JobState, WrongState
from dicom_node.ledger.tables import DeliveryRow, JobRow, PauseRow, SentRow


@dataclass(frozen=True)
class Sent:
    """An image that a destination has stored.

    Attributes:
        sop_uid: SOP Instance UID of the derived image.
        status: DIMSE status of the answer (PS3.4, table B.2-1); 0 for DICOMweb.
    """

    sop_uid: str
    status: int


@repeated
def claim_delivery(
    ledger: Ledger,
    destination: str,
    *,
    owner: str,
    lease_seconds: float = LEASE_SECONDS,
    now: float,
) -> Delivery | None:
    """Take the next delivery to a destination; nobody else gets it while the lease lasts.

    Urgent ones come first, of equals the one that has waited longest. While sending, or sending to
    this destination, is paused there is none.
    """
    take = (
        update(DeliveryRow)
        .where(
            DeliveryRow.id == _next_one(destination, now),
            DeliveryRow.state == DeliveryState.PENDING,
        )
        .values(
            state=DeliveryState.SENDING,
            owner=owner,
            lease_until=now + lease_seconds,
            attempts=DeliveryRow.attempts + 1,
            updated_at=now,
        )
        .returning(DeliveryRow)
        .execution_options(synchronize_session=False)
    )
    with ledger.write() as session:
        row = session.scalar(take)
        if row is None:
            return None
        note(session, row, DeliveryState.PENDING, "", now)
        roll_up(session, row.job, now=now, owner=owner)
        return delivery_of(row)


def _next_one(destination: str, now: float) -> ScalarSelect[int]:
    """The delivery whose turn it is, locked."""
    paused = select(PauseRow.stage).where(PauseRow.stage.in_(("send", f"send:{destination}")))
    return (
        select(DeliveryRow.id)
        .join(JobRow, JobRow.id == DeliveryRow.job_id)
        .where(
            DeliveryRow.destination == destination,
            DeliveryRow.state == DeliveryState.PENDING,
            or_(
                and_(DeliveryRow.attempts == 0, DeliveryRow.waits == 0),
                DeliveryRow.next_at <= now,
                DeliveryRow.updated_at > now + CLOCK_SLACK_SECONDS,  # the clock was set back
            ),
            JobRow.state.in_(SENDABLE),
            JobRow.derived_at.is_not(None),
            ~paused.exists(),
        )
        .order_by(JobRow.priority, DeliveryRow.next_at, DeliveryRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )


@repeated
def beat_delivery(
    ledger: Ledger,
    delivery_id: int,
    *,
    owner: str,
    lease_seconds: float = LEASE_SECONDS,
    now: float,
) -> bool:
    """Extend the lease; False when the delivery is no longer this owner's."""
    beat = (
        update(DeliveryRow)
        .where(DeliveryRow.id == delivery_id, DeliveryRow.owner == owner)
        .values(lease_until=now + lease_seconds)
        .returning(DeliveryRow.id)
        .execution_options(synchronize_session=False)
    )
    with ledger.write() as session:
        return session.scalar(beat) is not None


def waiting_destinations(ledger: Ledger) -> list[str]:
    """Names of the destinations to which something is still owed."""
    owed = (
        select(DeliveryRow.destination)
        .join(JobRow, JobRow.id == DeliveryRow.job_id)
        .where(DeliveryRow.state == DeliveryState.PENDING, JobRow.state.in_(SENDABLE))
        .distinct()
        .order_by(DeliveryRow.destination)
    )
    with ledger.read() as session:
        return list(session.scalars(owed))


def sent_names(ledger: Ledger, delivery_id: int) -> set[str]:
    """File names of the images that this destination has stored."""
    with ledger.read() as session:
        chosen = select(SentRow.name).where(SentRow.delivery_id == delivery_id)
        return set(session.scalars(chosen))


def uncommitted(ledger: Ledger, delivery_id: int) -> dict[str, str]:
    """The stored images to which this destination has not committed: file name to SOP UID."""
    chosen = select(SentRow.name, SentRow.sop_uid).where(
        SentRow.delivery_id == delivery_id, SentRow.committed_at.is_(None)
    )
    with ledger.read() as session:
        return {row.name: row.sop_uid for row in session.execute(chosen)}


@repeated
def note_sent(
    ledger: Ledger, delivery_id: int, *, owner: str, sent: Mapping[str, Sent], now: float
) -> bool:
    """Note images, by file name, that a destination has stored.

    Returns:
        True when the destination now has every derived image of the job.

    Raises:
        LeaseLost: The delivery is no longer this owner's.
    """
    with ledger.write() as session:
        row = owned(session, delivery_id, owner)
        chosen = select(SentRow.name).where(SentRow.delivery_id == row.id)
        known = set(session.scalars(chosen))
        session.add_all(
            SentRow(delivery_id=row.id, name=name, sop_uid=item.sop_uid, status=item.status, at=now)
            for name, item in sent.items()
            if name not in known
        )
        session.flush()
        return stored_count(row) == row.job.derived_count


def confirm(ledger: Ledger, delivery_id: int, *, owner: str, now: float) -> Delivery:
    """The destination has every image: CONFIRMED.

    Raises:
        LeaseLost: The delivery is no longer this owner's.
        WrongState: Images are missing.
    """

    def change(session: Session, row: DeliveryRow) -> None:
        if stored_count(row) != row.job.derived_count:
            raise WrongState(f"{row.destination} does not have every image of job {row.job_id}.")
        row.confirmed_at = now
        move_delivery(session, row, DeliveryState.CONFIRMED, now=now)

    return _as_owner(ledger, delivery_id, owner, now, change)


def postpone(
    ledger: Ledger,
    delivery_id: int,
    *,
    owner: str,
    reason: str,
    next_at: float,
    counted: bool = True,
    now: float,
) -> Delivery:
    """A passing fault: PENDING, to be tried again at ``next_at``; raises ``LeaseLost``.

    ``counted`` says whether the attempt is spent; one that found the destination away is not.
    """

    def change(session: Session, row: DeliveryRow) -> None:
        row.next_at = next_at
        if not counted:
            row.attempts, row.waits = row.attempts - 1, row.waits + 1
        move_delivery(session, row, DeliveryState.PENDING, now=now, reason=reason)

    return _as_owner(ledger, delivery_id, owner, now, change)


def refuse(ledger: Ledger, delivery_id: int, *, owner: str, reason: str, now: float) -> Delivery:
    """A lasting fault, or the attempts are spent: REFUSED; raises ``LeaseLost``."""

    def change(session: Session, row: DeliveryRow) -> None:
        move_delivery(session, row, DeliveryState.REFUSED, now=now, reason=reason)

    return _as_owner(ledger, delivery_id, owner, now, change)


def give_back_delivery(ledger: Ledger, delivery_id: int, *, owner: str, now: float) -> Delivery:
    """Stopped on request before the end: the attempt does not count; raises ``LeaseLost``."""

    def change(session: Session, row: DeliveryRow) -> None:
        row.attempts, row.next_at = row.attempts - 1, now
        move_delivery(session, row, DeliveryState.PENDING, now=now)

    return _as_owner(ledger, delivery_id, owner, now, change)


@repeated
def results_lost(ledger: Ledger, job_id: int, *, owner: str, now: float) -> Job:
    """The derived files have gone from the disk: FAILED, and a retry begins with denoising.

    Raises:
        LeaseLost: This owner holds none of the job's deliveries.
    """
    with ledger.write() as session:
        row = session.get(JobRow, job_id, with_for_update=True)
        if row is None or all(delivery.owner != owner for delivery in row.deliveries):
            raise LeaseLost(f"job {job_id} is no longer sent by this process.")
        for delivery in row.deliveries:
            if delivery.state in (DeliveryState.SENDING, DeliveryState.COMMITTING):
                move_delivery(session, delivery, DeliveryState.PENDING, now=now)
        row.derived_at, row.derived_count = None, 0
        reason = f"its derived files are gone; `dicom-node jobs retry {job_id}` makes them anew"
        move_job(session, row, JobState.FAILED, now=now, reason=reason, owner=owner)
        return job_of(row)


def locked(session: Session, delivery_id: int) -> DeliveryRow | None:
    """A delivery whose job is locked, and with the job all of its deliveries' transitions."""
    job = session.scalar(
        select(JobRow)
        .join(DeliveryRow, DeliveryRow.job_id == JobRow.id)
        .where(DeliveryRow.id == delivery_id)
        .with_for_update(of=JobRow)
    )
    return next((row for row in job.deliveries if row.id == delivery_id), None) if job else None


def owned(session: Session, delivery_id: int, owner: str) -> DeliveryRow:
    """A delivery of this owner, its job locked; raises ``LeaseLost`` if it is another's."""
    row = locked(session, delivery_id)
    if row is None or row.owner != owner:
        raise LeaseLost("the delivery no longer belongs to this process.")
    return row


@repeated
def _as_owner(
    ledger: Ledger,
    delivery_id: int,
    owner: str,
    now: float,
    change: Callable[[Session, DeliveryRow], None],
) -> Delivery:
    with ledger.write() as session:
        row = owned(session, delivery_id, owner)
        change(session, row)
        roll_up(session, row.job, now=now, owner=owner)
        return delivery_of(row)

"""Deliveries: the results of one job on their way to one destination, claimed one by one.

A destination that is away holds up no other. Every transition rolls up into the state of the job.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import ScalarSelect, Select, and_, or_, select
from sqlalchemy.orm import Session

from dicom_node.ledger.claim import LEASE_SECONDS, Claim, Clock, take
from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.fault import Fault
from dicom_node.ledger.history import move_delivery, move_job, note
from dicom_node.ledger.model import Delivery, Job, delivery_of, job_of, stored_count
from dicom_node.ledger.rollup import lock_delivery, roll_up
from dicom_node.ledger.series import CLOCK_SLACK_SECONDS
from dicom_node.ledger.states import SENDABLE, DeliveryState, JobState, WrongState
from dicom_node.ledger.tables import CommitmentRow, DeliveryRow, JobRow, PauseRow, SentRow
from dicom_node.settings import RetrySettings


@dataclass(frozen=True)
class Sent:
    """An image that a destination has stored.

    Attributes:
        sop_uid: SOP Instance UID of the derived image.
        status: DIMSE status of the answer (PS3.4, table B.2-1); 0 for DICOMweb.
    """

    sop_uid: str
    status: int


def claim_delivery(
    ledger: Ledger, destination: str, *, owner: str, clock: Clock = time.time
) -> DeliveryClaim | None:
    """Claim the next delivery to a destination; nobody else gets it while the lease lasts.

    Urgent ones come first, of equals the one that has waited longest. None while sending, or
    sending to this destination, is paused.
    """
    delivery = _claimed(ledger, destination, owner=owner, now=clock())
    if delivery is None:
        return None
    return DeliveryClaim(ledger=ledger, owner=owner, clock=clock, delivery=delivery)


@repeated
def _claimed(ledger: Ledger, destination: str, *, owner: str, now: float) -> Delivery | None:
    taking = take(
        DeliveryRow,
        _next_one(destination, now),
        DeliveryRow.state == DeliveryState.PENDING,
        owner=owner,
        until=now + LEASE_SECONDS,
        state=DeliveryState.SENDING,
        updated_at=now,
    )
    with ledger.write() as session:
        row = session.scalar(taking)
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


@dataclass(frozen=True, kw_only=True)
class DeliveryClaim(Claim[DeliveryRow, Delivery]):
    """A delivery in the hands of the process that sends it.

    Attributes:
        delivery: The delivery when it was claimed.
    """

    delivery: Delivery

    table = DeliveryRow

    @property
    def id(self) -> int:
        """Number of the delivery."""
        return self.delivery.id

    def __str__(self) -> str:
        return f"The delivery of job {self.delivery.job_id} to {self.delivery.destination}"

    def sent_names(self) -> set[str]:
        """Return the file names of the images that the destination has stored."""
        with self.ledger.read() as session:
            return set(session.scalars(_names_sent(self.id)))

    def uncommitted(self) -> dict[str, str]:
        """Return the stored images without a commitment: file name to SOP Instance UID."""
        stored = select(SentRow).where(SentRow.delivery_id == self.id)
        with self.ledger.read() as session:
            rows = session.scalars(stored.where(SentRow.committed_at.is_(None)))
            return {row.name: row.sop_uid for row in rows}

    def note_sent(self, sent: Mapping[str, Sent]) -> bool:
        """Note images, by file name, that the destination has stored.

        Returns:
            True when the destination now has every derived image of the job.

        Raises:
            LeaseLost: The delivery is no longer this owner's.
        """
        now = self.clock()

        def act(session: Session, row: DeliveryRow) -> bool:
            known = set(session.scalars(_names_sent(row.id)))
            session.add_all(
                SentRow(
                    delivery_id=row.id, name=name, sop_uid=item.sop_uid, status=item.status, at=now
                )
                for name, item in sent.items()
                if name not in known
            )
            session.flush()
            return stored_count(row) == row.job.derived_count

        return self.change(act)

    def confirm(self) -> Delivery:
        """Mark the delivery CONFIRMED: the destination has every image.

        Raises:
            LeaseLost: The delivery is no longer this owner's.
            WrongState: Images are missing.
        """

        def act(row: DeliveryRow, now: float) -> None:
            if stored_count(row) != row.job.derived_count:
                raise WrongState(
                    f"{row.destination} does not have every image of job {row.job_id}."
                )
            row.confirmed_at = now

        return self._move(DeliveryState.CONFIRMED, act)

    def begin_commitment(self, transaction_uid: str) -> None:
        """Note that storage commitment is about to be asked for; before the N-ACTION is sent.

        Raises:
            LeaseLost: The delivery is no longer this owner's.
        """
        now = self.clock()

        def act(session: Session, row: DeliveryRow) -> None:
            session.add(
                CommitmentRow(transaction_uid=transaction_uid, delivery_id=row.id, requested_at=now)
            )

        self.change(act)

    def await_commitment(self, transaction_uid: str, *, wait_seconds: float) -> Delivery:
        """Mark the delivery COMMITTING: the destination has taken the request and owes a report.

        Args:
            transaction_uid: Of the request.
            wait_seconds: Time that the report may take.

        Returns:
            The delivery; in whatever state the report has brought it, if that came first.

        Raises:
            LeaseLost: The delivery is no longer this owner's.
        """
        now = self.clock()
        answered = select(CommitmentRow).where(
            CommitmentRow.transaction_uid == transaction_uid, CommitmentRow.answered_at.is_not(None)
        )

        def act(session: Session) -> Delivery:
            row = self.locked(session)
            if row is not None and session.scalar(answered) is not None:
                return delivery_of(row)
            row = self.owned(session)
            row.next_at = now + wait_seconds
            return self._moved(session, row, DeliveryState.COMMITTING, now)

        return self.transact(act)

    def retry_later(self, reason: str, *, delay_seconds: float, counted: bool = True) -> Delivery:
        """Return the delivery to PENDING; an attempt that found nobody there does not count."""

        def act(row: DeliveryRow, now: float) -> None:
            row.next_at = now + delay_seconds
            if not counted:
                row.attempts, row.waits = row.attempts - 1, row.waits + 1

        return self._move(DeliveryState.PENDING, act, reason)

    def fail(self, reason: str) -> Delivery:
        """Mark the delivery REFUSED."""
        return self._move(DeliveryState.REFUSED, lambda _row, _now: None, reason)

    def give_back(self) -> Delivery:
        """Return the delivery to PENDING on stopping; the attempt does not count.

        Raises:
            LeaseLost: The delivery is no longer this owner's.
        """

        def act(row: DeliveryRow, now: float) -> None:
            row.attempts, row.next_at = row.attempts - 1, now

        return self._move(DeliveryState.PENDING, act)

    def results_lost(self) -> Job:
        """Mark the job FAILED: its derived files are missing, and a retry begins with denoising.

        Raises:
            LeaseLost: The delivery is no longer this owner's.
        """
        now = self.clock()

        def act(session: Session, held: DeliveryRow) -> Job:
            row = held.job
            for delivery in row.deliveries:
                if delivery.state in (DeliveryState.SENDING, DeliveryState.COMMITTING):
                    move_delivery(session, delivery, DeliveryState.PENDING, now=now)
            row.derived_at, row.derived_count = None, 0
            again = f"`dicom-node jobs retry {row.id}` makes them again"
            reason = f"its derived files are missing; {again}"
            move_job(session, row, JobState.FAILED, now=now, reason=reason, owner=self.owner)
            return job_of(row)

        return self.change(act)

    def fault(self, error: Exception, retry: RetrySettings) -> Fault:
        """Judge an error of the sending."""
        return Fault.of(error, self.delivery, retry)

    def locked(self, session: Session) -> DeliveryRow | None:
        """Lock the job and its deliveries' transitions with it."""
        return lock_delivery(session, self.id)

    def _move(
        self, after: DeliveryState, act: Callable[[DeliveryRow, float], None], reason: str = ""
    ) -> Delivery:
        now = self.clock()

        def moved(session: Session, row: DeliveryRow) -> Delivery:
            act(row, now)
            return self._moved(session, row, after, now, reason)

        return self.change(moved)

    def _moved(
        self, session: Session, row: DeliveryRow, after: DeliveryState, now: float, reason: str = ""
    ) -> Delivery:
        move_delivery(session, row, after, now=now, reason=reason)
        roll_up(session, row.job, now=now, owner=self.owner)
        return delivery_of(row)


def _names_sent(delivery_id: int) -> Select[str]:
    return select(SentRow.name).where(SentRow.delivery_id == delivery_id)

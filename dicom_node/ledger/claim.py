"""Claims: work that one process holds for as long as its lease lasts.

Jobs, deliveries and commitment reports are claimed alike: one statement takes the next row that
nobody holds, a heartbeat extends its lease, and the claim ends with the outcome of the work. Once
the lease belongs to somebody else, every call that would change the work raises :class:`LeaseLost`
and changes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from sqlalchemy import ColumnElement, ScalarSelect, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningUpdate

from dicom_node.errors import NodeError
from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.fault import Fault
from dicom_node.ledger.tables import CommitmentRequestRow, DeliveryRow, JobRow
from dicom_node.settings import RetrySettings

LEASE_SECONDS = 60.0
"""A process without a heartbeat for this long counts as dead; it beats three times as often."""

Clock = Callable[[], float]
"""Returns seconds since 1970."""

_Row = TypeVar("_Row", JobRow, DeliveryRow, CommitmentRequestRow)
_Settled = TypeVar("_Settled")
_Result = TypeVar("_Result")


class LeaseLost(NodeError):  # noqa: N818 - the name says what happened
    """The work no longer belongs to this process: cancelled, or its lease ran out."""


@dataclass(frozen=True, kw_only=True)
class Claim(ABC, Generic[_Row, _Settled]):
    """Leased work in the hands of one process.

    Attributes:
        ledger: Where it is leased.
        owner: Name of the process that holds it.
        clock: Seconds since 1970.
    """

    ledger: Ledger
    owner: str
    clock: Clock

    table: ClassVar[type[JobRow | DeliveryRow | CommitmentRequestRow]]

    @property
    @abstractmethod
    def id(self) -> int:
        """Number of the leased row."""

    def beat(self, lease_seconds: float = LEASE_SECONDS) -> bool:
        """Extend the lease from now on; False when the work is no longer this owner's."""
        return _extend(self.ledger, self, self.clock() + lease_seconds)

    def settle(self, error: Exception, retry: RetrySettings) -> _Settled:
        """Settle a fault: try again later, or give up.

        Raises:
            LeaseLost: The work is no longer this owner's.
        """
        fault = self.fault(error, retry)
        if not fault.passing:
            return self.fail(fault.reason)
        return self.retry_later(
            fault.reason, delay_seconds=fault.delay_seconds, counted=fault.counted
        )

    @abstractmethod
    def fault(self, error: Exception, retry: RetrySettings) -> Fault:
        """Judge an error of this work."""

    @abstractmethod
    def retry_later(self, reason: str, *, delay_seconds: float, counted: bool = True) -> _Settled:
        """Settle a passing fault: the work is claimed again after a pause.

        Args:
            reason: Of the pause.
            delay_seconds: Its length.
            counted: Whether the attempt is spent.

        Raises:
            LeaseLost: The work is no longer this owner's.
        """

    @abstractmethod
    def fail(self, reason: str) -> _Settled:
        """Give the work up: the fault is lasting, or the attempts are spent.

        Raises:
            LeaseLost: The work is no longer this owner's.
        """

    @abstractmethod
    def locked(self, session: Session) -> _Row | None:
        """Lock the leased row and return it, whoever holds it by now."""

    def owned(self, session: Session) -> _Row:
        """Lock the leased row; raises ``LeaseLost`` if it is another's."""
        row = self.locked(session)
        if row is None or row.owner != self.owner:
            raise LeaseLost(f"{self} no longer belongs to this process.")
        return row

    def change(self, act: Callable[[Session, _Row], _Result]) -> _Result:
        """Run one transaction on the leased row; raises ``LeaseLost`` if it is another's."""
        return self.transact(lambda session: act(session, self.owned(session)))

    def transact(self, act: Callable[[Session], _Result]) -> _Result:
        """Run one transaction, again if the database breaks it off."""
        return _transact(self.ledger, act)


def take(
    table: type[_Row],
    turn: ScalarSelect[int],
    *still: ColumnElement[bool],
    owner: str,
    until: float,
    **changes: object,
) -> ReturningUpdate[_Row]:
    """Build the one statement that claims a row.

    Args:
        table: Of the row.
        turn: Its id, chosen and locked; no other process waits for that lock.
        still: What must hold of it once it is locked.
        owner: Name of the process that claims it.
        until: End of the lease, seconds since 1970.
        changes: Further values by column.
    """
    return (
        update(table)
        .where(table.id == turn, *still)
        .values(owner=owner, lease_until=until, attempts=table.attempts + 1, **changes)
        .returning(table)
        .execution_options(synchronize_session=False)
    )


@repeated
def _extend(ledger: Ledger, claim: Claim[_Row, _Settled], until: float) -> bool:
    table = claim.table
    beat = (
        update(table)
        .where(table.id == claim.id, table.owner == claim.owner)
        .values(lease_until=until)
        .returning(table.id)
        .execution_options(synchronize_session=False)
    )
    with ledger.write() as session:
        return session.scalar(beat) is not None


@repeated
def _transact(ledger: Ledger, act: Callable[[Session], _Result]) -> _Result:
    with ledger.write() as session:
        return act(session)

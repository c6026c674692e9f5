"""Clocks that were wrong: moments in the ledger that lie further ahead than they can."""

from __future__ import annotations

from sqlalchemy import func, select

from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.tables import HistoryRow


def newest_moment(ledger: Ledger) -> float | None:
    """When the newest transition happened by the clock of then; None in an empty ledger."""
    with ledger.read() as session:
        return session.scalar(select(func.max(HistoryRow.at)))

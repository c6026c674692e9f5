"""Files of which the ledger knows nothing: entered nowhere, or in a ledger that was lost.

A receiver that dies between an image's file and its row leaves such a file, and so does a ledger
that was put back from a backup: nobody can tell which images were answered with success.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from dicom_node.ledger.arrivals import entered_names, names_entered
from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.tables import JobRow


@repeated
def take_unentered(ledger: Ledger, names: Sequence[str], take: Callable[[str], None]) -> list[str]:
    """Take those images out of the inbox that the ledger does not count on.

    Args:
        ledger: The ledger.
        names: Of files in the inbox.
        take: Moves a file elsewhere; called while no image can be entered. One that comes again
            just now is not entered without its file, and its sender hears so.

    Returns:
        Names of the images taken.
    """
    unknown = set(names) - entered_names(ledger, names)
    if not unknown:
        return []
    with _nothing_entered(ledger) as session:
        strays = sorted(unknown - names_entered(session, sorted(unknown)))
        for name in strays:
            take(name)
        return strays


@contextmanager
def _nothing_entered(ledger: Ledger) -> Iterator[Session]:
    """A transaction during which no image is entered: whoever enters one locks its series first."""
    with ledger.write() as session:
        if ledger.engine.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
            session.execute(text("LOCK TABLE series IN EXCLUSIVE MODE"))
        yield session


def stray_tokens(ledger: Ledger, tokens: Collection[str]) -> set[str]:
    """Those outbox folders that belong to no job."""
    with ledger.read() as session:
        return set(tokens) - set(session.scalars(select(JobRow.token)))

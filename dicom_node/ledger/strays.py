"""Find files that the ledger does not know: never recorded, or in a ledger that was lost.

A receiver that dies between an image's file and its row leaves such a file, and so does a ledger
that was restored from a backup: nobody can tell which images were answered with success.
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
    """Take the images out of the inbox that the ledger does not know.

    Args:
        ledger: The ledger.
        names: Files in the inbox.
        take: Moves a file elsewhere; called while no image can be recorded. One that comes again
            just then is not recorded without its file, and its sender is answered accordingly.

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
    """Open a transaction in which no image is recorded: recording locks its series first."""
    with ledger.write() as session:
        if ledger.engine.dialect.name == "postgresql":  # SQLite has one writer at a time anyway
            session.execute(text("LOCK TABLE series IN EXCLUSIVE MODE"))
        yield session


def stray_tokens(ledger: Ledger, tokens: Collection[str]) -> set[str]:
    """Return the outbox folders that belong to no job."""
    with ledger.read() as session:
        return set(tokens) - set(session.scalars(select(JobRow.token)))

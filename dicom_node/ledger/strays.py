"""Files of which the ledger knows nothing: never answered with success, or the ledger was lost.

A receiver that dies between an image's file and its row leaves such a file. Mostly the sender comes
again and it gets its row; when nobody ever comes, it must not stay for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from dicom_node.ledger.arrivals import entered_names, names_entered
from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.tables import InstanceRow, JobRow, SeriesRow


@repeated
def remove_strays(
    ledger: Ledger,
    folders: Collection[str],
    *,
    name_of: Callable[[str], str],
    remove: Callable[[str], None],
) -> list[str]:
    """Remove those folders of series of which no image is entered.

    Args:
        ledger: The ledger.
        folders: Names of folders that have been left alone for long.
        name_of: The folder's name for a Series Instance UID.
        remove: Removes a folder; called while no series can be entered, so that no image is
            entered whose file is just being removed.

    Returns:
        Names of the folders removed.
    """
    if not folders:
        return []
    entered = select(InstanceRow.series_id).where(InstanceRow.purged.is_(False))
    with _nothing_entered(ledger) as session:
        uids = session.scalars(select(SeriesRow.series_uid).where(SeriesRow.id.in_(entered)))
        known = {name_of(uid) for uid in uids}
        strays = [folder for folder in folders if folder not in known]
        for folder in strays:
            remove(folder)
        return strays


@repeated
def remove_unentered(
    ledger: Ledger, names: Sequence[str], remove: Callable[[str], None]
) -> list[str]:
    """Remove those images that the ledger does not count on.

    Args:
        ledger: The ledger.
        names: Of files in the inbox, of one series at most.
        remove: Removes a file; called while no image can be entered. One that comes again just now
            is not entered without its file, and its sender hears so.

    Returns:
        Names of the images removed.
    """
    unknown = set(names) - entered_names(ledger, names)
    if not unknown:
        return []
    with _nothing_entered(ledger) as session:
        strays = sorted(unknown - names_entered(session, sorted(unknown)))
        for name in strays:
            remove(name)
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

"""Identity that a ledger shares with its storage folder, and checks that both belong together."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, select, text

from dicom_node.ledger.arrivals import entered_names
from dicom_node.ledger.engine import Ledger, repeated
from dicom_node.ledger.strays import stray_tokens
from dicom_node.ledger.tables import IdentityRow, InstanceRow, SeriesRow

_IDENTITY = text("SELECT value FROM identity")


def identity_of(connection: Connection) -> str | None:
    """Return the identity within a transaction; None when the ledger has none."""
    found = connection.execute(_IDENTITY).scalar()
    return None if found is None else str(found)


def read_identity(ledger: Ledger) -> str | None:
    """Return the ledger's identity; None when it has none yet.

    Raises:
        StorageError: The ledger cannot be used.
    """
    with ledger.read() as session:
        return identity_of(session.connection())


@repeated
def give_identity(ledger: Ledger, value: str, *, instead_of: str | None = None) -> str:
    """Give the ledger an identity, unless another process just did.

    Args:
        ledger: The ledger.
        value: The new identity.
        instead_of: The one that it has; None: only when it has none.

    Returns:
        The identity that the ledger now has.
    """
    with ledger.write() as session:
        if session.connection().dialect.name == "postgresql":
            session.execute(text("LOCK TABLE identity IN EXCLUSIVE MODE"))
        row = session.get(IdentityRow, 1)
        if row is None:
            session.add(IdentityRow(id=1, value=value))
            return value
        if row.value == instead_of:
            row.value = value
        return row.value


def is_unused(ledger: Ledger) -> bool:
    """Return whether the ledger has never known a series."""
    with ledger.read() as session:
        return session.scalar(select(SeriesRow.id).limit(1)) is None


def counts_on_files(ledger: Ledger) -> bool:
    """Return whether the ledger knows an image whose file must be in the inbox."""
    with ledger.read() as session:
        present = select(InstanceRow.id).where(InstanceRow.purged.is_(False))
        return session.scalar(present.limit(1)) is not None


def knows_any(ledger: Ledger, names: Sequence[str], tokens: Collection[str]) -> bool:
    """Return whether the ledger knows one of these inbox images or outbox results."""
    if tokens and set(tokens) - stray_tokens(ledger, tokens):
        return True
    return bool(names and entered_names(ledger, names))

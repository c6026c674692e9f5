"""Bring the tables up to date, after a copy of the earlier ledger."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import Connection, text

from dicom_node.errors import ConfigurationError, StorageError

MIGRATIONS = Path(__file__).parent / "migrations"

_LOCK = 0x6D616E6E6F6465
"""Key of the PostgreSQL advisory lock under which one process at a time changes tables."""


def upgrade(connection: Connection) -> None:
    """Run the missing migrations in the open transaction.

    Raises:
        ConfigurationError: The ledger was written by a newer version of this program.
        StorageError: A SQLite ledger of an earlier version cannot be copied first.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    present = MigrationContext.configure(connection).get_current_revision()
    config = _config(connection)
    newest = ScriptDirectory.from_config(config).get_current_head()
    if present == newest:
        return
    if present is not None and connection.dialect.name == "sqlite":
        _copy(connection, present)
    try:
        command.upgrade(config, "head")
    except (CommandError, ResolutionError) as error:
        raise ConfigurationError(
            f"The ledger was written by another version of this program (this one knows"
            f" {newest}); install that version or use another 'database'."
        ) from error


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _copy(connection: Connection, revision: str) -> None:
    """Copy the ledger durably to ``ledger.db.<revision>.backup`` before it changes.

    The open transaction holds the write lock, so the copy is of one moment; another connection
    may read meanwhile.
    """
    database = connection.engine.url.database
    if not database or database == ":memory:":
        return
    source = Path(database)
    copy = source.with_name(f"{source.name}.{revision}.backup")
    part = copy.with_name(f"{copy.name}.part")
    try:
        part.unlink(missing_ok=True)
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(part)) as new:
            old.backup(new)
        _sync(part)
        part.replace(copy)
        _sync(copy.parent)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(
            f"The ledger cannot be copied to {copy.name} before its upgrade ({error}); make room"
            f" in {copy.parent}."
        ) from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

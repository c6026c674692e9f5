"""Opening the ledger: engine, pragmas, migrations.

SQLite runs in WAL mode with ``synchronous=FULL``: an image is answered with success only when its
row survives a power cut. Transactions that write take the write lock at their start (BEGIN
IMMEDIATE), because a reader that turns writer half-way fails at once with "database is locked".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from dicom_node.errors import ConfigurationError, StorageError

BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for the one before it; far longer than any transaction of ours."""

MIGRATIONS = Path(__file__).parent / "migrations"

_BEGIN = "ledger_begin"


@dataclass(frozen=True)
class Ledger:
    """An open ledger. One a process; not to be carried across a fork."""

    engine: Engine

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that only reads."""
        with _disk_faults(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that holds the write lock; commits at the end, rolls back on any error."""
        writing = self.engine.execution_options(**{_BEGIN: "IMMEDIATE"})
        with (
            _disk_faults(),
            Session(writing, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def open_ledger(url: str) -> Ledger:
    """Open the ledger, create it if need be and bring its tables up to date.

    Safe when several processes do it at once.

    Args:
        url: SQLAlchemy URL such as ``sqlite:////var/lib/man-node/ledger.db``.

    Raises:
        ConfigurationError: The ledger was written by a newer version of this program.
        StorageError: The file cannot be opened or written.
    """
    engine = _engine(url)
    ledger = Ledger(engine)
    try:
        with ledger.write() as session:
            _migrate(session.connection())
    except BaseException:
        ledger.close()
        raise
    return ledger


@contextmanager
def _disk_faults() -> Iterator[None]:
    """Tell of a full, missing or locked database in one sentence."""
    try:
        yield
    except DBAPIError as error:
        raise StorageError(f"the ledger cannot be used: {error.orig}.") from error


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed)
    if parsed.database:
        _make_folder(Path(parsed.database).parent)
    engine = create_engine(parsed)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"the ledger's folder {folder} cannot be made ({error.strerror}); check 'database'."
        ) from error


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: see _begin_sqlite
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    mode = connection.get_execution_options().get(_BEGIN, "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except (CommandError, ResolutionError) as error:
        newest = ScriptDirectory.from_config(config).get_current_head()
        raise ConfigurationError(
            f"the ledger was written by another version of this program (this one knows"
            f" {newest}); install that version or use another 'database'."
        ) from error

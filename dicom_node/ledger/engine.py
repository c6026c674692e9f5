"""Open the ledger: engine, pragmas, migrations.

SQLite runs in WAL mode with ``synchronous=FULL``: an image is answered with success only when its
row survives a power cut. Transactions that write take the write lock at their start (BEGIN
IMMEDIATE), because a reader that turns writer half-way fails at once with "database is locked".

PostgreSQL has no such lock, so every transaction locks the rows that it decides about, always in
the order series, job, delivery. Should two of them deadlock all the same, PostgreSQL rolls one back
and :func:`repeated` runs it again.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from dicom_node.errors import StorageError
from dicom_node.ledger.presence import LedgerFile
from dicom_node.logs import get_logger

log = get_logger(__name__)

BUSY_TIMEOUT_MS = 30_000
"""Time that a writer waits for the one before it; far longer than any transaction of ours."""

CONNECT_TIMEOUT_SECONDS = 10
"""Time within which a PostgreSQL server must answer."""

RECONNECT_SECONDS = 1.0
"""Pause before a part of the node connects again to a server that is away."""

MAX_TRANSACTION_ATTEMPTS = 5
"""Attempts for a transaction that the database rolls back in favour of another."""

_BEGIN = "ledger_begin"

_SQLITE_LOCKED = "database is locked"

WRITE_LOCK_HELD = (
    f"another process has held its write lock for {BUSY_TIMEOUT_MS // 1000} s; look for a part of"
    " the node that is stopped or hangs, and continue or kill it"
)
"""Reason where SQLite waited in vain: its writers take turns, and one does not go on."""

_BROKEN_OFF = frozenset({"40001", "40P01", "23505"})
"""SQLSTATE of a serialization failure, a deadlock, and a row that another inserted meanwhile."""

_POSTGRESQL = (
    f"-c lock_timeout={BUSY_TIMEOUT_MS} -c idle_in_transaction_session_timeout=60000"
    " -c synchronous_commit=on -c default_transaction_isolation=read\\ committed"
)

_P = ParamSpec("_P")
_T = TypeVar("_T")


class BrokenOff(StorageError):  # noqa: N818 - the name says what happened
    """The database rolled a transaction back in favour of another; running it again succeeds."""


Guard = Callable[[Connection], None]
"""Called in every transaction that writes, before anything else; raises where none may write."""


def _unguarded(_connection: Connection) -> None:
    """Allow every write: the ledger is only read, or has no storage folder."""


@dataclass(frozen=True)
class Ledger:
    """An open ledger. One a process; not to be carried across a fork.

    Attributes:
        engine: Its connections.
        file: The file that they have open; None for a server.
        guard: See :data:`Guard`.
    """

    engine: Engine
    file: LedgerFile | None = None
    guard: Guard = _unguarded

    def guarded(self, guard: Guard) -> Ledger:
        """Return the same ledger on the same connections, with a guard."""
        return replace(self, guard=guard)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session that only reads."""
        with self._present(), _faults(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a transaction with the write lock; commit at the end, roll back on any error."""
        writing = self.engine.execution_options(**{_BEGIN: "IMMEDIATE"})
        with (
            self._present(),
            _faults(),
            Session(writing, expire_on_commit=False) as session,
            session.begin(),
        ):
            self.guard(session.connection())
            yield session

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction without a session: a third cheaper, for statements by the thousand."""
        writing = self.engine.execution_options(**{_BEGIN: "IMMEDIATE"})
        with self._present(), _faults(), writing.begin() as connection:
            self.guard(connection)
            yield connection

    def check_file(self) -> None:
        """Check that the open file is the one at its path; cheap enough for every image.

        Raises:
            StorageError: It was deleted or replaced.
        """
        if self.file is not None:
            self.file.check()

    @contextmanager
    def _present(self) -> Iterator[None]:
        """Check before and after that the open file is the one at its path."""
        self.check_file()
        yield
        self.check_file()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def open_ledger(url: str) -> Ledger:
    """Open the ledger, create it if necessary and bring its tables up to date.

    Safe when several processes do it at once. A SQLite ledger of an earlier version is copied
    beside itself before its tables change.

    Args:
        url: SQLAlchemy URL such as ``sqlite:////var/lib/man-node/ledger.db``.

    Raises:
        ConfigurationError: The ledger was written by a newer version of this program.
        StorageError: The database cannot be opened or written.
    """
    from dicom_node.ledger.upgrade import upgrade

    ledger = _opened(url)
    try:
        with ledger.write() as session:
            upgrade(session.connection())
    except BaseException:
        ledger.close()
        raise
    return ledger


def open_when_ready(url: str, should_stop: Callable[[], bool]) -> Ledger:
    """Open the ledger as :func:`open_ledger` does, but wait for a database server that is away.

    A server that restarts must end no part of a node. A SQLite ledger is a
    file of this machine; its faults do not pass by waiting.

    Raises:
        ConfigurationError: The ledger was written by a newer version of this program.
        StorageError: The file cannot be opened, or the wait was interrupted.
    """
    while True:
        try:
            return open_ledger(url)
        except StorageError as error:
            if make_url(url).get_backend_name() == "sqlite" or should_stop():
                raise
            log.error("waiting for the ledger", reason=str(error))
            time.sleep(RECONNECT_SECONDS)


def repeated(
    transaction: Callable[Concatenate[Ledger, _P], _T],
) -> Callable[Concatenate[Ledger, _P], _T]:
    """Run a function of one transaction again when the database rolls it back."""

    @functools.wraps(transaction)
    def run(ledger: Ledger, /, *args: _P.args, **fields: _P.kwargs) -> _T:
        for _ in range(MAX_TRANSACTION_ATTEMPTS - 1):
            try:
                return transaction(ledger, *args, **fields)
            except BrokenOff:
                continue
        return transaction(ledger, *args, **fields)

    return run


@contextmanager
def _faults() -> Iterator[None]:
    """Report a full, missing, locked or unreachable database in one sentence."""
    try:
        yield
    except PoolTimeout as error:
        raise StorageError("The ledger cannot be used: all its connections are busy.") from error
    except DBAPIError as error:
        said = " ".join(str(error.orig).split())
        if said == _SQLITE_LOCKED:
            said = WRITE_LOCK_HELD
        broken_off = getattr(error.orig, "sqlstate", None) in _BROKEN_OFF
        kind = BrokenOff if broken_off else StorageError
        raise kind(f"The ledger cannot be used: {said.rstrip(' .?!')}.") from error


def _opened(url: str) -> Ledger:
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return Ledger(_postgresql(parsed))
    engine = create_engine(parsed)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    if not parsed.database:
        return Ledger(engine)
    path = Path(parsed.database)
    _make_folder(path.parent)
    file = LedgerFile(path)
    file.watch(engine)
    return Ledger(engine, file)


def _postgresql(url: URL) -> Engine:
    return create_engine(
        url,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "options": _POSTGRESQL,
            "application_name": "dicom-node",
        },
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The ledger's folder {folder} cannot be made ({error.strerror}); check 'database'."
        ) from error


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: see _begin_sqlite
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("SELECT count(*) FROM sqlite_master")  # opens the write-ahead log
    cursor.fetchall()
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    mode = connection.get_execution_options().get(_BEGIN, "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")

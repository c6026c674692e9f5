"""A throw-away PostgreSQL server on a free loopback port, with empty tables for every test."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
import pytest

from dicom_node.ledger.engine import open_ledger
from dicom_node.ledger.tables import Base
from support.peers import free_port, wait_until

STOP_SECONDS = 30.0
TEMPLATE = "template_ledger"


@dataclass
class PostgreSQL:
    """A running server.

    Attributes:
        folder: Of its data and its log.
        durable: Whether it synchronises its files; tests of a crash of the server need that.
    """

    folder: Path
    port: int
    durable: bool
    popen: subprocess.Popen[bytes]
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))
    _shared: str | None = None

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://node@127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str = TEMPLATE) -> str:
        """URL of a new database; from the template it has the ledger's tables already."""
        name = f"ledger_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def emptied_database(self) -> str:
        """URL of the one database that tests share which need no more than empty tables."""
        if self._shared is None:
            self._shared = self.new_database()
        tables = ", ".join(Base.metadata.tables)
        self.execute(
            f"SET session_replication_role = replica; TRUNCATE {tables} RESTART IDENTITY",
            self._shared.rpartition("/")[2],
        )
        return self._shared

    def execute(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="node", dbname=database, autocommit=True
        ) as connection:
            connection.execute(statement.encode())

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT in order, SIGQUIT as a crash would."""
        self.popen.send_signal(how)
        self.popen.wait(STOP_SECONDS)

    def start(self) -> None:
        """Begin again on the data that is there."""
        self.popen = _serve(self.folder, self.port, durable=self.durable)
        self.wait_ready()

    def wait_ready(self) -> None:
        wait_until("PostgreSQL answers", self._answers)

    def _answers(self) -> bool:
        if self.popen.poll() is not None:
            pytest.fail(f"PostgreSQL ended:\n{(self.folder / 'log').read_text()}")
        with contextlib.suppress(psycopg.OperationalError):
            self.execute("SELECT 1")
            return True
        return False


@contextlib.contextmanager
def postgresql(*, durable: bool = False) -> Iterator[PostgreSQL]:
    """A server of its own; it and its data are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    if (user := _user()) is not None:
        shutil.chown(folder, user)
    try:
        _run("initdb", "-D", folder / "data", "-U", "node", "-E", "UTF8", "--locale=C",
             "--auth=trust", "--no-sync", "--no-instructions")  # fmt: skip
        port = free_port()
        server = PostgreSQL(folder, port, durable, _serve(folder, port, durable=durable))
        try:
            server.wait_ready()
            server.execute(f"CREATE DATABASE {TEMPLATE}")
            open_ledger(server.url(TEMPLATE)).close()
            yield server
        finally:
            server.stop(signal.SIGQUIT)  # nothing of it is needed any more
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _serve(folder: Path, port: int, *, durable: bool) -> subprocess.Popen[bytes]:
    options = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "fsync": "on" if durable else "off",
        "deadlock_timeout": "200ms",
        "log_min_messages": "warning",
    }
    words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [_program("postgres"), "-D", folder / "data", *words],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, user=_user(),
        )  # fmt: skip


def _run(name: str, *arguments: str | Path) -> None:
    done = subprocess.run(
        [_program(name), *arguments], capture_output=True, text=True, user=_user(), cwd="/",
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def _user() -> str | None:
    """Whom the server runs as: it refuses to be root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _program(name: str) -> str:
    """Path of a server program, which Debian keeps out of the search path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    search = os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders)])
    path = shutil.which(name, path=search)
    if path is None:
        message = f"{name} is not installed (Debian package: postgresql)"
        if os.environ.get("CI_REQUIRES_PEERS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path

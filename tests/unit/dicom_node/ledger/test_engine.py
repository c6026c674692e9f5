"""Opening the ledger: migrations, copies, pragmas, other versions, bad places, lost servers."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy.exc import OperationalError
from support.ledger_factory import START, NodeFixture
from support.postgres import postgresql

from dicom_node.errors import ConfigurationError, StorageError
from dicom_node.ledger.engine import (
    MAX_TRANSACTION_ATTEMPTS,
    Ledger,
    open_ledger,
    open_when_ready,
    repeated,
)
from dicom_node.ledger.lineage import uncovered_names
from dicom_node.ledger.operations import get_job, list_jobs
from dicom_node.ledger.series import list_series
from dicom_node.ledger.states import DeliveryState, JobState
from dicom_node.ledger.tables import Base
from dicom_node.ledger.upgrade import MIGRATIONS
from dicom_node.work_order import WorkOrder


@pytest.fixture
def database(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A ledger of its own: these tests change its tables."""
    if engine == "sqlite":
        return f"sqlite:///{tmp_path}/var/ledger.db"
    return str(request.getfixturevalue("postgresql_server").new_database())


def test_migrations_make_the_tables_of_the_code(node: NodeFixture) -> None:
    with node.ledger.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_sqlite_is_set_up_to_survive(node: NodeFixture) -> None:
    with node.ledger.engine.connect() as connection:
        seen = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert seen == ["wal", 2, 1, 30_000]


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_postgresql_is_set_up_to_survive(node: NodeFixture) -> None:
    with node.ledger.engine.connect() as connection:
        seen = [
            connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("synchronous_commit", "transaction_isolation", "lock_timeout")
        ]
    assert seen == ["on", "read committed", "30s"]


def test_a_ledger_is_opened_again_as_it_was(node: NodeFixture) -> None:
    node.arrive()
    again = open_ledger(node.settings.database)
    with again.read() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM instance")) == 1
    again.close()
    assert list(node.folder.glob("var/*.backup")) == []


def test_a_ledger_of_a_newer_version_is_left_alone(node: NodeFixture) -> None:
    with node.ledger.write() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="another version of this program"):
        open_ledger(node.settings.database)


def first_version(folder: Path) -> Path:
    """A ledger as the first version left it: one job half sent, one that waits, one that failed."""
    path = folder / "ledger.db"
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("""
            INSERT INTO series VALUES (1, '1.2', '1.1', 'ENQUEUED', 1, 'CT', '', 5, 9);
            INSERT INTO instance VALUES (1, 1, '1.2.1', 'aa', 'a', 1, 1, 0, 5);
            INSERT INTO job VALUES
                (1, 1, 1, 'a', 'ta', 'SENDING', 'man', 1, 2, 9, '', 'me', 99, 8, 2, 5, 9),
                (2, 1, 1, 'b', 'tb', 'RETRY_WAIT', 'man', 1, 3, 70, 'away', NULL, NULL, 8, 2, 5, 9),
                (3, 1, 1, 'c', 'tc', 'FAILED', 'man', 1, 9, 9, 'no', NULL, NULL, 8, 2, 5, 9);
            INSERT INTO delivery VALUES (1, 1, 'pacs', 'PENDING', '', NULL),
                (2, 2, 'pacs', 'PENDING', 'away', NULL), (3, 3, 'pacs', 'PENDING', 'no', NULL);
            INSERT INTO sent VALUES (1, '1.dcm', 0, 9);
        """)
    return path


def test_an_earlier_ledger_is_copied_and_brought_up_to_date(tmp_path: Path) -> None:
    path = first_version(tmp_path)
    with closing(open_ledger(f"sqlite:///{path}")) as ledger:
        states = [(job.state, job.deliveries[0].state) for job in list_jobs(ledger)[::-1]]
        assert states == [
            (JobState.DERIVED, DeliveryState.PENDING),
            (JobState.RETRY_WAIT, DeliveryState.PENDING),
            (JobState.FAILED, DeliveryState.REFUSED),
        ]
        assert get_job(ledger, 2).deliveries[0].next_at == 70
        assert get_job(ledger, 1).deliveries[0].confirmed == 0
        assert list_series(ledger)[0].began_at == 5
    with closing(sqlite3.connect(tmp_path / "ledger.db.0001.backup")) as copy:
        assert copy.execute("SELECT count(*) FROM job WHERE state = 'SENDING'").fetchone() == (1,)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_jobs_of_an_earlier_ledger_have_the_default_dose_gain(node: NodeFixture) -> None:
    """Work that was done before remains the same work: late slices alone are denoised."""
    node.job()
    node.claim_job()
    node.arrive(b"late", sop_uid="1.2.2", now=START + 50)
    (series,) = node.complete(START + 60)
    with node.ledger.engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.downgrade(config, "0004")
    node.ledger.close()
    with closing(open_ledger(node.settings.database)) as ledger:
        assert [job.dose_gain for job in list_jobs(ledger)] == [None]
        order = WorkOrder("identity", 1.0, ("pacs",))
        assert len(uncovered_names(ledger, series, order)) == 1
        assert len(uncovered_names(ledger, series, replace(order, dose_gain=4.0))) == 2
        assert len(uncovered_names(ledger, series, replace(order, dose_gain="auto"))) == 2


def test_a_ledger_that_cannot_be_copied_is_not_changed(tmp_path: Path) -> None:
    path = first_version(tmp_path)
    (tmp_path / "ledger.db.0001.backup.part").mkdir()
    with pytest.raises(StorageError, match=r"cannot be copied to ledger\.db\.0001\.backup"):
        open_ledger(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        seen = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    assert seen == [("0001",)]


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("this is a text file, and long enough to be looked at")
    with pytest.raises(StorageError, match="file is not a database"):
        open_ledger(f"sqlite:///{tmp_path}/ledger.db")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file")
    with pytest.raises(StorageError, match="check 'database'"):
        open_ledger(f"sqlite:///{tmp_path}/var/ledger.db")


def test_a_transaction_that_fails_leaves_nothing(node: NodeFixture) -> None:
    def fail_half_way() -> None:
        with node.ledger.write() as session:
            session.execute(sa.text("DELETE FROM alembic_version"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    with node.ledger.read() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM alembic_version")) == 1


class DeadlockError(Exception):
    sqlstate = "40P01"


@pytest.mark.parametrize("broken_off", [1, MAX_TRANSACTION_ATTEMPTS - 1, MAX_TRANSACTION_ATTEMPTS])
def test_a_transaction_that_is_broken_off_is_run_again(node: NodeFixture, broken_off: int) -> None:
    runs = []

    @repeated
    def transaction(ledger: Ledger) -> int:
        with ledger.write():
            runs.append(1)
            if len(runs) <= broken_off:
                raise OperationalError("", {}, DeadlockError("deadlock detected"))
            return len(runs)

    if broken_off < MAX_TRANSACTION_ATTEMPTS:
        assert transaction(node.ledger) == broken_off + 1
    else:
        with pytest.raises(StorageError, match="deadlock detected"):
            transaction(node.ledger)


def test_a_server_that_goes_away_is_told_and_found_again() -> None:
    with (
        postgresql(durable=True) as server,
        closing(open_ledger(server.new_database())) as ledger,
    ):
        assert list_jobs(ledger) == []
        server.stop(signal.SIGQUIT)
        with pytest.raises(StorageError, match="The ledger cannot be used"):
            list_jobs(ledger)
        server.start()
        assert list_jobs(ledger) == []


def test_a_server_that_is_not_there_is_told_in_one_line() -> None:
    with pytest.raises(StorageError, match="The ledger cannot be used") as told:
        open_ledger("postgresql+psycopg://node@127.0.0.1:1/ledger")
    assert "\n" not in str(told.value)


def test_a_part_waits_for_a_server_that_is_away() -> None:
    with postgresql() as server:
        url = server.new_database()
        server.stop()
        with pytest.raises(StorageError, match="The ledger cannot be used"):
            open_when_ready(url, lambda: True)

        def back_meanwhile() -> bool:
            server.start()
            return False

        with closing(open_when_ready(url, back_meanwhile)) as ledger:
            assert list_jobs(ledger) == []


def test_nobody_waits_for_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(StorageError):
        open_when_ready(f"sqlite:///{tmp_path}/ledger.db", lambda: False)

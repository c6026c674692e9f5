"""Opening the ledger: migrations from an empty file, pragmas, other versions, bad places."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from ledger_factory import NodeFixture

from dicom_node.errors import ConfigurationError, StorageError
from dicom_node.ledger.engine import open_ledger
from dicom_node.ledger.tables import Base


def test_migrations_make_the_tables_of_the_code(node: NodeFixture) -> None:
    with node.ledger.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []


def test_sqlite_is_set_up_to_survive(node: NodeFixture) -> None:
    with node.ledger.engine.connect() as connection:
        seen = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert seen == ["wal", 2, 1, 30_000]


def test_a_ledger_is_opened_again_as_it_was(node: NodeFixture) -> None:
    node.arrive()
    again = open_ledger(node.settings.database)
    with again.read() as session:
        assert session.scalar(sa.text("SELECT count(*) FROM instance")) == 1
    again.close()


def test_a_ledger_of_a_newer_version_is_left_alone(node: NodeFixture) -> None:
    with node.ledger.write() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="another version of this program"):
        open_ledger(node.settings.database)


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

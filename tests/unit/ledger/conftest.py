from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_factory import NodeFixture


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """The ledger keeps its word on both engines."""
    return str(request.param)


@pytest.fixture
def database(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """URL of an empty ledger."""
    if engine == "sqlite":
        return f"sqlite:///{tmp_path}/var/ledger.db"
    return str(request.getfixturevalue("postgresql_server").emptied_database())


@pytest.fixture
def node(database: str, tmp_path: Path) -> Iterator[NodeFixture]:
    built = NodeFixture(tmp_path, database=database)
    yield built
    built.ledger.close()

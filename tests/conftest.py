"""Puts this folder on the import path: a test says ``from ct_factory import make_series``."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from postgres import PostgreSQL, postgresql

# A loaded machine is slow, not wrong.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """What a test sets up of logging ends with it; its stream would be closed in the next."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    """One server for all tests that ask for it; each takes a database of its own."""
    with postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """The ledger keeps its word on both engines: who asks for a database is run twice."""
    return str(request.param)


@pytest.fixture
def database(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """URL of an empty ledger."""
    if engine == "sqlite":
        return f"sqlite:///{tmp_path}/var/ledger.db"
    return str(request.getfixturevalue("postgresql_server").emptied_database())

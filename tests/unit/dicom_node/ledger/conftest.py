from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ledger_factory import NodeFixture


@pytest.fixture
def node(database: str, tmp_path: Path) -> Iterator[NodeFixture]:
    built = NodeFixture(tmp_path, database=database)
    yield built
    built.ledger.close()

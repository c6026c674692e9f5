from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.receivers import Start, starting


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """What starts receivers in this process; they end with the test."""
    with starting(tmp_path) as begin:
        yield begin

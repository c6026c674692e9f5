"""The worst day: parts killed while series arrive, late halves, routers that send all again.

``make test`` runs a short day. ``make torture`` runs a long one; ``TORTURE_KILLS`` and
``TORTURE_SEED`` say how long and which.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import pytest
from support.fault_injection import Disturbance, run_with_disturbance
from support.part_processes import PARTS, kill_at_random
from support.postgres import postgresql

SHORT_KILLS, LONG_KILLS = 10, 200
TWO_OF_EACH = ("receive", "work", "work", "deliver", "deliver", "serve")


def kills_of_the_day() -> int:
    usual = LONG_KILLS if os.environ.get("TORTURE") == "1" else SHORT_KILLS
    return int(os.environ.get("TORTURE_KILLS") or usual)


def killing(kills: int) -> Disturbance:
    return Disturbance(lambda made, rng, _ledger: kill_at_random(made, rng, kills))


def test_killed_parts_lose_double_and_mix_up_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_with_disturbance(tmp_path, PARTS, killing(kills_of_the_day()), capsys)


@pytest.mark.skipif(os.environ.get("TORTURE") != "1", reason="part of `make torture`")
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_two_of_each_part_killed_do_no_worse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    """Two receiver processes on one port, two workers and two senders on one queue."""
    with postgresql() if engine == "postgresql" else nullcontext() as server:
        changes = {"database": server.new_database()} if server else {}
        kills = kills_of_the_day() // 2
        run_with_disturbance(tmp_path, TWO_OF_EACH, killing(kills), capsys, receivers=2, **changes)

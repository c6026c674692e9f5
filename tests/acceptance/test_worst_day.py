"""The worst day: parts killed while series arrive, late halves, routers that send all again.

``make test`` runs a short day. ``make torture`` runs a long one; ``TORTURE_KILLS`` and
``TORTURE_SEED`` say how long and which.
"""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
from aftermath import verdict
from peers import Ports, node_settings, orthanc, wait_until, write_node
from postgres import postgresql
from scanner import Scanner, scanning
from torture import PARTS, Part, drained, parts, seed_of_the_day, swept, torment

from dicom_node.ledger.engine import open_ledger
from dicom_node.settings import load_settings

SHORT_KILLS, LONG_KILLS = 10, 200
DRAIN_SECONDS = 300.0
MODALITIES = ("CT1", "CT2", "CT3")
TWO_OF_EACH = ("receive", "work", "work", "deliver", "deliver", "serve")
PATIENT = {"attempts": 100, "first_delay_seconds": 0.5, "longest_delay_seconds": 1}
"""So many kills would use up anybody's attempts."""


def kills_of_the_day() -> int:
    usual = LONG_KILLS if os.environ.get("TORTURE") == "1" else SHORT_KILLS
    return int(os.environ.get("TORTURE_KILLS") or usual)


def test_killed_parts_lose_double_and_mix_up_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live_through(tmp_path, PARTS, kills_of_the_day(), capsys)


@pytest.mark.skipif(os.environ.get("TORTURE") != "1", reason="part of `make torture`")
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_two_of_each_part_killed_do_no_worse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    """Two receiver processes on one port, two workers and two senders on one queue."""
    with postgresql() if engine == "postgresql" else nullcontext() as server:
        changes = {"database": server.new_database()} if server else {}
        kills = kills_of_the_day() // 2
        live_through(tmp_path, TWO_OF_EACH, kills, capsys, receivers=2, **changes)


def live_through(
    folder: Path,
    commands: Sequence[str],
    kills: int,
    capsys: pytest.CaptureFixture[str],
    *,
    receivers: int = 1,
    **changes: str,
) -> None:
    """A day with so many kills; everything must be as if it had been a quiet one."""
    seed, ports = seed_of_the_day(), Ports()
    settings = node_settings(ports, retry=PATIENT, **changes)
    settings["listen"]["processes"] = receivers
    config = write_node(folder / "node", settings)
    storage = config.parent / "var"
    ledger = open_ledger(load_settings(config).database)
    scanners = [
        Scanner(name, folder / "scans", ports.node, ledger, random.Random(f"{seed} {name}"))
        for name in MODALITIES
    ]
    with orthanc(folder / "pacs", ports) as pacs:
        with parts(config, commands) as made, scanning(scanners):
            killed = torment(made, random.Random(seed), kills)
            for scanner in scanners:
                scanner.stop_after_this()
            wait_until("all is sent", lambda: all_sent(scanners, made), DRAIN_SECONDS)
            wait_until("all is done", lambda: drained(made, ledger), DRAIN_SECONDS)
            for part in made:  # a start sweeps what the dead have left
                if part.command in ("receive", "serve"):
                    part.stop()
                    part.start()
            wait_until("leftovers are swept", lambda: swept(made, storage))
        with capsys.disabled():
            sys.stdout.write(told(seed, killed, scanners))
        scans = [scan for scanner in scanners for scan in scanner.scans]
        assert verdict(scans, pacs, ledger, storage) == []
    ledger.close()
    assert {part.command: part.died_alone for part in made if part.died_alone} == {}
    for log in config.parent.glob("*.log"):
        assert "Traceback" not in log.read_text(), log


def all_sent(scanners: list[Scanner], made: Sequence[Part]) -> bool:
    for part in made:
        part.look_after()
    for scanner in scanners:
        if scanner.fault is not None:
            raise scanner.fault
    return not any(scanner.is_alive() for scanner in scanners)


def told(seed: int, killed: Counter[str], scanners: list[Scanner]) -> str:
    """The day in two lines."""
    scans = [scan for scanner in scanners for scan in scanner.scans]
    images = sum(len(scan.files) for scan in scans)
    manners = sum((scanner.manners for scanner in scanners), Counter[str]())
    return (
        f"\nTORTURE_SEED={seed}: {killed.total()} kills {dict(killed)};"
        f"\n{len(scans)} series of {images} images, sent {dict(manners)}\n"
    )

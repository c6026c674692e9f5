"""A ledger that is wrong, lost, deleted or old, and a storage folder that is wrong or read-only.

``make test`` has each mishap once. ``make torture`` has them by the dozen while scanners send;
``TORTURE_SEED`` says which, ``TORTURE_MISHAPS`` how many.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from support.consistency import inconsistencies
from support.node_under_test import LINE_SECONDS, NodeUnderTest, node_under_test
from support.part_processes import random_seed
from support.peers import free_port, orthanc, run_command, wait_until
from support.scanner import answered
from support.storage_faults import LEDGER_ENDINGS, STORAGE_FAULTS, can_be_made, health

from dicom_node.ledger.engine import open_ledger

HOURS_AGO = 7200.0
DRAIN_SECONDS = 300.0
MANY_MISHAPS = int(os.environ.get("TORTURE_MISHAPS") or 24)
TORTURED = os.environ.get("TORTURE") == "1"


def configure(line: NodeUnderTest, **changes: object) -> None:
    settings = yaml.safe_load(line.config.read_text())
    line.config.write_text(yaml.safe_dump({**settings, **changes}))


def images(line: NodeUnderTest) -> set[Path]:
    return set((line.storage / "inbox").glob("*/*.dcm"))


def age(line: NodeUnderTest) -> None:
    """As if two hours had gone by."""
    for path in images(line):
        moment = path.stat().st_mtime - HOURS_AGO
        os.utime(path, (moment, moment))


def back_up(ledger: Path, copy: Path) -> None:
    """As ``.backup`` of the sqlite3 program does."""
    with closing(sqlite3.connect(ledger)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def refuses(line: NodeUnderTest, files: tuple[Path, ...]) -> bool:
    """Whether a sender is answered with success for none of these."""
    return not answered(files, line.ports.node, calling="CT1")


def is_red(port: int, word: str) -> bool:
    status, reasons = health(port)
    return status == 503 and any(word in reason for reason in reasons)


def test_a_wrong_ledger_deletes_nothing_and_an_old_one_gets_back_what_it_forgot(
    tmp_path: Path,
) -> None:
    """A mistyped database, and then the restore of a backup as the documentation says."""
    web = free_port()
    with node_under_test(tmp_path, web={"host": "127.0.0.1", "port": web}) as line:
        first, second, third = line.scan(), line.scan(), line.scan()
        backup = tmp_path / "backup.db"
        with line.node():
            line.send(*first.files)
            back_up(line.storage / "ledger.db", backup)
            line.send(*second.files)
        line.ledger.close()
        age(line)
        there = images(line)
        assert len(there) == len(first.files) + len(second.files)
        configure(line, database="sqlite:///var/ledgr.db")
        with line.node():
            wait_until("it says so", lambda: is_red(web, "does not belong to the storage"))
            assert refuses(line, third.files)
        assert images(line) == there
        configure(line, database="sqlite:///var/ledger.db")
        for ending in LEDGER_ENDINGS:
            (line.storage / f"ledger.db{ending}").unlink(missing_ok=True)
        backup.rename(line.storage / "ledger.db")
        with orthanc(tmp_path / "pacs", line.ports) as pacs, line.node():
            wait_until("it says so", lambda: is_red(web, "images are in no ledger"), LINE_SECONDS)
            assert there - images(line)  # they are in unknown/
            taken = run_command("unknown", "take-in", "-c", line.config)
            assert taken.returncode == 0, taken.stderr
            assert taken.stdout.startswith(f"Images taken in: {len(second.files)};")
            line.ledger = open_ledger(f"sqlite:///{line.storage}/ledger.db")
            line.send(*third.files)
            wait_until("all have jobs", lambda: len(line.jobs()) == 3, LINE_SECONDS)
            wait_until("all is done", line.all_done, DRAIN_SECONDS)
            assert inconsistencies(line.scans, pacs, line.ledger, line.storage) == []


def test_mishaps_under_way_are_refused_told_and_lose_nothing(tmp_path: Path) -> None:
    """Each once, on one running node, which goes on by itself when all is right again."""
    web, pacs_folder = free_port(), tmp_path / "pacs"
    with (
        node_under_test(tmp_path, web={"host": "127.0.0.1", "port": web}) as line,
        orthanc(pacs_folder, line.ports) as pacs,
        line.node(),
    ):
        line.send(*line.scan().files)
        wait_until("all parts are well", lambda: health(web)[0] == 200, DRAIN_SECONDS)
        for name in filter(can_be_made, STORAGE_FAULTS):
            scan = line.scan(4)
            with STORAGE_FAULTS[name](line.storage):
                assert refuses(line, scan.files), name
                assert health(web)[0] == 503, name
            line.send(*scan.files)
        wait_until("all is done", line.all_done, DRAIN_SECONDS)
        wait_until("all is well", lambda: health(web)[0] == 200, DRAIN_SECONDS)
        assert len(line.jobs()) == len(line.scans)
        assert inconsistencies(line.scans, pacs, line.ledger, line.storage) == []


@pytest.mark.skipif(not TORTURED, reason="part of `make torture`")
def test_mishaps_by_the_dozen_while_scanners_send(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed, web = random_seed(), free_port()
    rng, seen = random.Random(seed), Counter[str]()
    with node_under_test(tmp_path, web={"host": "127.0.0.1", "port": web}) as line:
        scanner = Sending(line)
        with orthanc(tmp_path / "pacs", line.ports) as pacs:
            with line.node():
                wait_until("all parts are well", lambda: health(web)[0] == 200, DRAIN_SECONDS)
                scanner.start()
                for _ in range(MANY_MISHAPS):
                    name = rng.choice([*filter(can_be_made, STORAGE_FAULTS)])
                    before = len(images(line))
                    wait_until("images come", lambda: len(images(line)) > before, LINE_SECONDS)  # noqa: B023
                    with STORAGE_FAULTS[name](line.storage):
                        wait_until(f"red: {name}", lambda: health(web)[0] == 503)
                    seen[name] += 1
                scanner.finish()
                wait_until("all is done", line.all_done, DRAIN_SECONDS)
            with line.node():  # its start deletes parts of files that a read-only disk kept
                pass
            with capsys.disabled():
                sys.stdout.write(f"\nTORTURE_SEED={seed}: {dict(seen)}, {len(line.scans)} series\n")
            assert inconsistencies(line.scans, pacs, line.ledger, line.storage) == []


class Sending(threading.Thread):
    """A scanner that sends series after series, and again what was not answered with success."""

    def __init__(self, line: NodeUnderTest) -> None:
        super().__init__(daemon=True)
        self._line, self._last = line, threading.Event()

    def run(self) -> None:
        while not self._last.is_set():
            missing = set(self._line.scan().files)
            while missing:
                missing -= answered(sorted(missing), self._line.ports.node, calling="CT1")

    def finish(self) -> None:
        """Wait until the series under way is sent."""
        self._last.set()
        self.join(DRAIN_SECONDS)
        assert not self.is_alive()

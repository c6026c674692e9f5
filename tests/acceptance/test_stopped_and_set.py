"""Parts that are suspended and resumed, a clock that is set, two contradictory senders.

``make test`` sets the clock and has the senders once; ``make torture`` does all, and often.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from support.ct_factory import rewrite
from support.fault_injection import Disturbance, run_with_disturbance
from support.node_under_test import LINE_SECONDS, NodeUnderTest, node_under_test
from support.part_processes import PARTS, START_SECONDS, Part
from support.peers import REPOSITORY, orthanc, wait_until
from support.scanner import answered, rows

from dicom_node.ledger.engine import Ledger

TORTURE = os.environ.get("TORTURE") == "1"
ROUNDS = 5 if TORTURE else 1
TWO_OF_SOME = ("receive", "work", "work", "deliver", "deliver", "serve")
HOUR = 3600.0
DAYS = 10 * 24 * HOUR
TAKEN_SECONDS = 180.0
"""A lease lasts 60 s; then somebody else takes the work. A worker needs most of a minute to start
where the processors are busy."""

LOCK_SECONDS = 5.0
"""Longer than any transaction of a part that is not stopped."""

HELD = {"work": "job", "deliver": "delivery"}
"""The tables in which a part's claims stand."""


@pytest.mark.skipif(not TORTURE, reason="part of `make torture`")
def test_parts_that_are_stopped_for_longer_than_their_lease_and_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_with_disturbance(tmp_path, TWO_OF_SOME, Disturbance(stop_and_go_on), capsys)


def stop_and_go_on(made: Sequence[Part], rng: random.Random, ledger: Ledger) -> Counter[str]:
    """Worker and sender until others have taken their work; receiver and housekeeping briefly."""
    for _ in range(ROUNDS):
        stop_all_once(made, ledger)
        goes_on(ledger, made)
    return Counter(work=ROUNDS, deliver=ROUNDS, receive=ROUNDS, serve=ROUNDS)


def stop_all_once(made: Sequence[Part], ledger: Ledger) -> None:
    with (
        stopped_at_work(first(made, "work"), ledger) as work_taken,
        stopped_at_work(first(made, "deliver"), ledger) as delivery_taken,
    ):
        with (
            stopped_part(first(made, "receive"), ledger),
            stopped_part(first(made, "serve"), ledger),
        ):
            drained_of_work(ledger)
        wait_until(
            "others have taken the work", lambda: work_taken() and delivery_taken(), TAKEN_SECONDS
        )


def drained_of_work(ledger: Ledger) -> None:
    """Wait until nobody but those who are stopped holds anything."""
    held = "SELECT count(*) FROM job WHERE owner IS NOT NULL OR state = 'QUEUED'"
    wait_until(
        "the others have nothing left",
        lambda: int(str(rows(ledger, held)[0][0])) <= 1,
        START_SECONDS,
    )


@contextlib.contextmanager
def stopped_at_work(part: Part, ledger: Ledger) -> Iterator[Callable[[], bool]]:
    """Stop a part that holds a claim; yields whether somebody else has that by now."""
    table = HELD[part.command]
    held = wait_until(
        f"{part.command} is stopped at work", lambda: stop_at(part, table, ledger), TAKEN_SECONDS
    )
    query = f"SELECT owner FROM {table} WHERE id = :id"
    try:
        yield lambda: not owned_by(rows(ledger, query, id=held[0])[0][0], part)
    finally:
        part.ask(signal.SIGCONT)


def stop_at(part: Part, table: str, ledger: Ledger) -> list[int]:
    """Stop a part if it holds something; what it holds, in a list."""
    query = f"SELECT id, owner FROM {table} WHERE owner IS NOT NULL"
    if not any(owned_by(owner, part) for _, owner in rows(ledger, query)):
        return []
    part.ask(signal.SIGSTOP)
    held = [int(str(id_)) for id_, owner in rows(ledger, query) if owned_by(owner, part)]
    if not held or not writable(ledger):
        part.ask(signal.SIGCONT)
        return []
    return held


def writable(ledger: Ledger) -> bool:
    """Whether the write lock of SQLite is free, or becomes free soon.

    Whoever is stopped while he holds it holds up everybody: see ``test_ledger_held.py``.
    """
    try:
        with contextlib.closing(sqlite3.connect(ledger_file(ledger), timeout=LOCK_SECONDS)) as own:
            own.execute("BEGIN IMMEDIATE")
            own.rollback()
    except sqlite3.OperationalError:
        return False
    return True


def ledger_file(ledger: Ledger) -> Path:
    assert ledger.engine.url.database is not None
    return Path(ledger.engine.url.database)


def owned_by(owner: object, part: Part) -> bool:
    assert part.popen is not None
    return owner is not None and str(owner).split()[-2] == str(part.popen.pid)


@contextlib.contextmanager
def stopped_part(part: Part, ledger: Ledger) -> Iterator[None]:
    def stop() -> bool:
        part.ask(signal.SIGSTOP)
        if not writable(ledger):
            part.ask(signal.SIGCONT)
            return False
        return True

    wait_until(f"{part.command} is stopped between two transactions", stop, TAKEN_SECONDS)
    try:
        yield
    finally:
        part.ask(signal.SIGCONT)


def test_a_clock_that_is_set_forward_and_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0")
    environment = {
        "TEST_CLOCK": str(clock),
        "PYTHONPATH": os.pathsep.join(
            [str(REPOSITORY / "tests" / "support" / "set_clock"), str(REPOSITORY)]
        ),
    }

    def set_clock(made: Sequence[Part], rng: random.Random, ledger: Ledger) -> Counter[str]:
        moments = [HOUR, 0.0, -HOUR, 0.0, DAYS, -DAYS, 0.0][: None if TORTURE else 4] * ROUNDS
        goes_on(ledger, made)
        for ahead in moments:
            fresh = clock.with_suffix(".new")
            fresh.write_text(str(ahead))
            fresh.replace(clock)
            goes_on(ledger, made)
        return Counter(set=len(moments))

    run_with_disturbance(tmp_path, PARTS, Disturbance(set_clock, environment), capsys)


def goes_on(ledger: Ledger, made: Sequence[Part]) -> None:
    """Wait until two more jobs than now are done: series that came before and after."""
    before = done(ledger)

    def further() -> bool:
        for part in made:
            part.look_after()
        return done(ledger) >= before + 2

    wait_until("work goes on", further, START_SECONDS)


def done(ledger: Ledger) -> int:
    return int(str(rows(ledger, "SELECT count(*) FROM job WHERE state = 'DONE'")[0][0]))


def first(made: Sequence[Part], command: str) -> Part:
    return next(part for part in made if part.command == command)


def test_two_senders_with_different_content_at_once(tmp_path: Path) -> None:
    """The first image of each UID counts, whole; the other one is kept aside."""
    with (
        node_under_test(tmp_path) as line,
        orthanc(tmp_path / "pacs", line.ports) as pacs,
        line.node(),
    ):
        for number in range(ROUNDS):
            scan = line.scan(slices=12)
            others = [other_version(path) for path in scan.files]
            kept = len(versions(line.storage / "quarantine"))
            send_both(line, scan.files, others)
            wait_until("all is done", line.all_done, LINE_SECONDS)
            aside = versions(line.storage / "quarantine")
            assert len(aside) == kept + len(scan.files), f"round {number}"
        received = versions(line.storage / "inbox")
        sent = [path for scan in line.scans for path in scan.files]
        every = {pixels(path) for path in sent} | {pixels(other_version(path)) for path in sent}
        assert set(received.values()) | set(aside.values()) == every, "nothing is lost"
        at_pacs = [dcmread(BytesIO(pacs.file(item))) for item in pacs.get("/instances")]
        found = {
            (str(each.SourceImageSequence[0].ReferencedSOPInstanceUID), each.PixelData)
            for each in at_pacs
        }
        assert found == set(received.items()), "each image once, with the pixels that count"
        assert len(at_pacs) == len(sent)


def send_both(line: NodeUnderTest, files: Sequence[Path], others: Sequence[Path]) -> None:
    """Two scanners at one moment."""
    together = threading.Barrier(2)

    def send(calling: str, its: Sequence[Path]) -> None:
        together.wait(LINE_SECONDS)
        answered(its, line.ports.node, calling=calling)

    senders = [
        threading.Thread(target=send, args=("CT1", files)),
        threading.Thread(target=send, args=("CT2", others[::-1])),
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()


def other_version(path: Path) -> Path:
    """Other pixels under the same UIDs."""
    other = path.with_suffix(".other")
    if not other.exists():
        dataset = dcmread(path)
        dataset.PixelData = (dataset.pixel_array ^ 1).tobytes()
        rewrite(dataset, other)
    return other


def pixels(path: Path) -> bytes:
    return bytes(dcmread(path).PixelData)


def versions(folder: Path) -> dict[str, bytes]:
    """The pixels of each image under a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    headers = [dcmread(path) for path in files]
    return {str(header.SOPInstanceUID): bytes(header.PixelData) for header in headers}

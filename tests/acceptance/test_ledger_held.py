"""A process that holds the write lock of the ledger and does not proceed."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from support.consistency import inconsistencies
from support.node_under_test import LINE_SECONDS, NodeUnderTest, node_under_test
from support.peers import free_port, orthanc, wait_until
from support.scanner import answered
from support.storage_faults import health

from dicom_node.ledger.engine import WRITE_LOCK_HELD


def test_a_held_write_lock_stops_everything_visibly_and_loses_nothing(tmp_path: Path) -> None:
    """As by a part that is stopped or hangs in the middle of a transaction."""
    web = free_port()
    with (
        node_under_test(
            tmp_path, web={"host": "127.0.0.1", "port": web}, health={"sweep_seconds": 1}
        ) as line,
        orthanc(tmp_path / "pacs", line.ports) as pacs,
        line.node() as process,
    ):
        line.send(*line.scan().files)
        wait_until("the first series is done", line.all_done, LINE_SECONDS)
        second = line.scan()
        with write_lock(line):
            assert answered(second.files[:1], line.ports.node, calling="CT1") == set()
            wait_until("the node reports itself unhealthy", lambda: overdue(web), LINE_SECONDS)
            wait_until("the cause is logged", lambda: WRITE_LOCK_HELD in process.output)
        line.send(*second.files)
        wait_until("the second series is done", line.all_done, LINE_SECONDS)
        wait_until("the node is healthy again", lambda: health(web)[0] == 200, LINE_SECONDS)
        assert "maximum number of running instances" not in process.output, "a line each second"
        assert inconsistencies(line.scans, pacs, line.ledger, line.storage) == []


def overdue(port: int) -> bool:
    status, reasons = health(port)
    return status == 503 and any("sweep" in reason for reason in reasons)


@contextlib.contextmanager
def write_lock(line: NodeUnderTest) -> Iterator[None]:
    database = line.ledger.engine.url.database
    assert database is not None
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.rollback()

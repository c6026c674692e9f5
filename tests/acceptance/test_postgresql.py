"""Two workers on one queue in PostgreSQL: a worker is killed, and the server falls and rises."""

from __future__ import annotations

import random
import signal
from collections import Counter
from pathlib import Path

from support.node_under_test import NodeUnderTest, archive, node_under_test
from support.part_processes import Part, parts
from support.peers import listening, wait_until
from support.postgres import postgresql

from dicom_node.ledger.history import of_job
from dicom_node.ledger.pauses import pause, resume
from dicom_node.ledger.states import JobState

COMMANDS = ("receive", "work", "work", "deliver", "serve")
SERIES, SLICES = 6, 4
SECONDS = 240.0


def test_two_workers_share_a_queue_and_outlive_a_crash_of_its_server(tmp_path: Path) -> None:
    taker = archive(tmp_path / "archive")
    with (
        postgresql(durable=True) as server,
        node_under_test(
            tmp_path, more=taker, destinations=["archive"], database=server.new_database()
        ) as here,
        taker.up(),
        parts(here.config, COMMANDS) as made,
    ):
        wait_until("the node listens", lambda: listening(here.ports.node), SECONDS)
        pause(here.ledger, "denoise", reason="until all is here", now=0.0)
        scans = [here.scan(SLICES) for _ in range(SERIES)]
        here.send(*scans[0].files)
        server.stop(signal.SIGQUIT)
        server.start()
        here.send(*(path for scan in scans[1:] for path in scan.files))
        wait_until("every series has its job", lambda: queued(here) == SERIES, SECONDS)
        resume(here.ledger, "denoise")
        wait_until("a worker is at work", lambda: here.times_denoising() > 0, SECONDS)
        first_worker(made).kill(random.Random(0))
        wait_until("all is done", here.all_done, SECONDS)
        assert [part.command for part in made if part.has_died()] == []
        assert len(taker.files()) == SERIES * SLICES
        assert here.times_derived() == SERIES
        for job in here.jobs():
            claims = Counter(event.after for event in of_job(here.ledger, job.id))
            given_back = claims["QUEUED"] - 1
            assert claims["DENOISING"] == 1 + given_back


def queued(here: NodeUnderTest) -> int:
    return sum(job.state == JobState.QUEUED for job in here.jobs())


def first_worker(made: list[Part]) -> Part:
    return next(part for part in made if part.command == "work")

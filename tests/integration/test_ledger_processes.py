"""The ledger between real processes: exclusive claims, opening at once, SIGKILL between steps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_factory import START, NodeFixture

from dicom_node.ledger.arrivals import Recorded
from dicom_node.ledger.leases import is_dead
from dicom_node.ledger.operations import get_job, list_jobs, release_lost_leases
from dicom_node.ledger.series import list_series
from dicom_node.ledger.states import JobState

REPOSITORY = Path(__file__).parents[2]
PROCESSES = 4
JOBS = 40
TIMEOUT_SECONDS = 240

SET_UP = """
import os, signal, sys, time
from pathlib import Path
from ledger_factory import START, NodeFixture

def die(*_args, **_fields):
    os.kill(os.getpid(), signal.SIGKILL)

folder, what = Path(sys.argv[1]), sys.argv[2]
node = NodeFixture(folder)
"""

CLAIM = (
    SET_UP
    + """
import json
from dicom_node.ledger.jobs import claim
print("ready", flush=True)
sys.stdin.readline()
jobs = [
    claim(node.ledger, owner="me", off_peak=False, now=START + 1000) for _ in range(int(what))
]
print(json.dumps([job.id for job in jobs if job is not None]))
"""
)

RECEIVE = (
    SET_UP
    + """
from dicom_node.store import inbox
if what == "before it has its name":
    os.link = die
elif what == "before its content is synchronised":
    os.fsync = die
elif what == "before the folder is synchronised":
    inbox.sync_folder = die
stored = node.store(b"pixels", sop_uid="1.2.2")
if what == "before the entry":
    die()
if what == "inside the transaction":
    object.__setattr__(stored, "path", type("Dying", (), {"exists": die})())
node.record(stored, sop_uid="1.2.2")
die()
"""
)

WORK = (
    SET_UP
    + """
from dicom_node import worker
def denoise(files, folder, *, job, only, should_stop):
    for number, path in enumerate(files):
        (folder / f"{number}.dcm").write_bytes(path.read_bytes())
    if what == "in the middle":
        die()
    return "{}"
if what == "before the result is entered":
    worker.derived = die
worker.Worker(
    node.ledger, node.inbox, node.outbox, node.settings.reports_folder, denoise,
    node.settings.retry, clock=lambda: START,
).work_once(lambda: False)
"""
)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeFixture]:
    built = NodeFixture(tmp_path)
    yield built
    built.ledger.close()


def begin(program: str, folder: Path, what: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder), what],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": path}, cwd=folder,
    )  # fmt: skip


def killed(program: str, folder: Path, what: str) -> None:
    process = begin(program, folder, what)
    _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == -signal.SIGKILL, errors


def test_every_job_is_claimed_by_one_process(node: NodeFixture) -> None:
    expected = {node.job(series_uid=f"1.2.{number}").id for number in range(JOBS)}
    share = str(JOBS // PROCESSES)  # so that the fastest cannot take them all
    processes = [begin(CLAIM, node.folder, share) for _ in range(PROCESSES)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    claims: list[int] = []
    for process in processes:  # all are ready: let them run at once
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0, errors
        claims += json.loads(output)
    assert sorted(claims) == sorted(expected)
    assert len(list_jobs(node.ledger, states=[JobState.DENOISING], limit=JOBS + 1)) == JOBS


def test_processes_may_open_a_new_ledger_at_once(tmp_path: Path) -> None:
    processes = [begin(SET_UP, tmp_path, "open") for _ in range(PROCESSES)]
    for process in processes:
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0, errors


@pytest.mark.parametrize(
    ("moment", "again"),
    [
        ("before it has its name", Recorded.NEW),
        ("before its content is synchronised", Recorded.NEW),
        ("before the folder is synchronised", Recorded.NEW),
        ("before the entry", Recorded.NEW),
        ("inside the transaction", Recorded.NEW),
        ("before the answer", Recorded.DUPLICATE),
    ],
)
def test_a_receiver_killed_at_any_moment_loses_and_doubles_nothing(
    node: NodeFixture, moment: str, again: Recorded
) -> None:
    node.arrive(b"first", sop_uid="1.2.1")
    killed(RECEIVE, node.folder, moment)
    node.inbox.sweep_leftovers()
    assert node.arrive(b"pixels", sop_uid="1.2.2") is again
    (series,) = list_series(node.ledger)
    files = sorted(path for path in node.inbox.root.rglob("*") if path.is_file())
    assert files == sorted(node.inbox.path(name) for name in series.names)
    assert [path.read_bytes()[132:] for path in map(node.inbox.path, series.names)] == [
        b"first",
        b"pixels",
    ]


@pytest.mark.parametrize("moment", ["in the middle", "before the result is entered"])
def test_a_worker_killed_at_any_moment_is_replaced_at_once(node: NodeFixture, moment: str) -> None:
    queued = node.job()
    killed(WORK, node.folder, moment)
    assert get_job(node.ledger, queued.id).state == JobState.DENOISING
    (released,) = release_lost_leases(node.ledger, now=START, attempts=3, is_dead=is_dead)
    assert released.state == JobState.QUEUED
    process = begin(WORK, node.folder, "unharmed")
    _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0, errors
    job = get_job(node.ledger, queued.id)
    assert (job.state, job.derived_count) == (JobState.DERIVED, 1)
    node.outbox.sweep_leftovers(set)
    assert [folder.name for folder in node.outbox.root.iterdir()] == [job.token]

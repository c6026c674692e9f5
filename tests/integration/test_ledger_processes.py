"""The ledger between real processes, on both engines: exclusive claims, races, SIGKILL anywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.ledger_factory import START, NodeFixture

from dicom_node.ledger.arrivals import Recorded
from dicom_node.ledger.history import of_job
from dicom_node.ledger.leases import is_dead
from dicom_node.ledger.operations import get_job, list_jobs, release_lost_leases
from dicom_node.ledger.series import list_series, skip
from dicom_node.ledger.states import JobState

REPOSITORY = Path(__file__).parents[2]
PROCESSES = 4
JOBS = 40
ARRIVALS = 60
TIMEOUT_SECONDS = 240

SET_UP = """
import os, signal, sys, time
from pathlib import Path
from support.ledger_factory import START, NodeFixture

def die(*_args, **_fields):
    os.kill(os.getpid(), signal.SIGKILL)

folder, what = Path(sys.argv[1]), sys.argv[2]
node = NodeFixture(folder, database=os.environ["LEDGER"])
"""

WORK_ALL = (
    SET_UP
    + """
from support.ledger_factory import at
from dicom_node.ledger.deliveries import Sent, claim_delivery
from dicom_node.ledger.jobs import claim_job
from dicom_node.ledger.operations import release_lost_leases, status
from dicom_node.ledger.states import JobState
print("ready", flush=True)
sys.stdin.readline()
now, me = START + 1000, what
while set(status(node.ledger).jobs) != {JobState.DONE}:
    job = claim_job(node.ledger, owner=me, off_peak=True, clock=at(now))
    if job is not None:
        assert job.beat()
        job.derived(1)
    release_lost_leases(node.ledger, now=now, attempts=9)
    for destination in ("pacs", "archive"):
        sent = claim_delivery(node.ledger, destination, owner=me, clock=at(now))
        if sent is not None:
            assert sent.beat()
            assert sent.note_sent({"1": Sent("1", 0)})
            sent.confirm()
"""
)

ARRIVE_ALL = (
    SET_UP
    + """
import random
from dicom_node.ledger.arrivals import Arrival, record_instances
print("ready", flush=True)
sys.stdin.readline()
mine = [
    Arrival(f"1.2.{series}", "1.1", f"{series}.{what}.{image}", "sha", "name", 1, "CTSCAN")
    for series in range(6) for image in range(10)
]
shared = [Arrival(f"1.2.{series}", "1.1", "shared", "sha", "name", 1, "CT") for series in range(6)]
mine += shared
random.Random(what).shuffle(mine)
answers = []
for start in range(0, len(mine), 5):
    batch = mine[start : start + 5]
    answers += record_instances(node.ledger, batch, now=START, exists=lambda arrival: True)
print(answers.count("new"))
"""
)

PURGE = (
    SET_UP
    + """
from dicom_node.ledger.purging import purge_old_series
print("ready", flush=True)
sys.stdin.readline()
while not (folder / "stop").exists():
    purge_old_series(
        node.ledger, before=START + 9e9, now=START, remove=node.inbox.remove_images
    )
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
from dicom_node.denoising import worker
from dicom_node.ledger.jobs import JobClaim
from support.worker_stub import CopyDenoise
def act(_job, _should_stop):
    if what == "in the middle":
        die()
if what == "before the result is entered":
    JobClaim.derived = die
worker.Worker(
    node.ledger, node.inbox, node.outbox, node.settings.reports_folder, CopyDenoise(act),
    node.settings.retry, clock=lambda: START,
).work_once(lambda: False)
"""
)


@pytest.fixture
def node(database: str, tmp_path: Path) -> Iterator[NodeFixture]:
    built = NodeFixture(tmp_path, database=database)
    yield built
    built.ledger.close()


def begin(program: str, node: NodeFixture | SimpleNamespace, what: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    return subprocess.Popen(
        [sys.executable, "-c", program, str(node.folder), what],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path, "LEDGER": node.settings.database},
        cwd=node.folder,
    )  # fmt: skip


def let_run(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Wait until all are ready, then let them run at once."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def output(process: subprocess.Popen[str]) -> str:
    said, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0, errors
    return said


def killed(program: str, node: NodeFixture, what: str) -> None:
    process = begin(program, node, what)
    _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == -signal.SIGKILL, errors


def test_every_job_and_every_delivery_is_claimed_once(node: NodeFixture) -> None:
    """The history is the witness: each was begun once, whoever asked for work at that moment."""
    for number in range(JOBS):
        node.job(series_uid=f"1.2.{number}", destinations=["pacs", "archive"])
    processes = [begin(WORK_ALL, node, f"w{number}") for number in range(PROCESSES)]
    let_run(processes)
    for process in processes:
        output(process)
    expected = [("DENOISING", ""), ("SENDING", "archive"), ("SENDING", "pacs")]
    for job in list_jobs(node.ledger, limit=JOBS):
        events = of_job(node.ledger, job.id)
        begun = [(e.after, e.destination) for e in events if (e.after, e.destination) in expected]
        assert sorted(begun) == expected


def test_receivers_that_take_one_series_at_once_enter_every_image_once(node: NodeFixture) -> None:
    processes = [begin(ARRIVE_ALL, node, str(number)) for number in range(PROCESSES)]
    let_run(processes)
    new = [int(output(process)) for process in processes]
    assert sum(new) == 6 * (10 * PROCESSES + 1)
    series = list_series(node.ledger)
    assert [len(item.names) for item in series] == [10 * PROCESSES + 1] * 6


def test_what_is_answered_while_retention_runs_is_there(node: NodeFixture) -> None:
    purger = begin(PURGE, node, "")
    let_run([purger])
    names = [f"1.2.{number}" for number in range(5)]
    for turn in range(ARRIVALS):
        uid = names[turn % len(names)]
        node.arrive(f"{turn}".encode(), series_uid=uid, sop_uid=f"{uid}.{turn}", now=START + turn)
        for series in node.complete(START + turn, quiet_seconds=0):
            skip(node.ledger, series, reason="not ours", now=START + turn)
    (node.folder / "stop").touch()
    output(purger)
    kept = [name for series in list_series(node.ledger, limit=None) for name in series.names]
    assert [name for name in kept if not node.inbox.path(name).is_file()] == []


def test_processes_may_open_a_new_ledger_at_once(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    database = f"sqlite:///{tmp_path}/var/ledger.db"
    if engine == "postgresql":
        server = request.getfixturevalue("postgresql_server")
        database = server.new_database(template="template0")
    node = SimpleNamespace(folder=tmp_path, settings=SimpleNamespace(database=database))
    for process in [begin(SET_UP, node, "open") for _ in range(PROCESSES)]:
        output(process)


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
    killed(RECEIVE, node, moment)
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
    killed(WORK, node, moment)
    assert get_job(node.ledger, queued.id).state == JobState.DENOISING
    (released,) = release_lost_leases(node.ledger, now=START, attempts=3, is_dead=is_dead)
    assert released.state == JobState.QUEUED
    output(begin(WORK, node, "unharmed"))
    job = get_job(node.ledger, queued.id)
    assert (job.state, job.derived_count) == (JobState.DERIVED, 1)
    node.outbox.sweep_leftovers(set)
    assert [folder.name for folder in node.outbox.root.iterdir()] == [job.token]

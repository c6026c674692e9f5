"""Work that crashes its process: queued behind the others, and parked after two crashes.

The processes are real ones. They die of a fatal signal that the work itself has raised, or they are
killed from outside, which is not held against the work.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.ledger_factory import START, House, NodeFixture

from dicom_node.crashes import OUT_OF_MEMORY, CrashRecord, crash_causes, read_crash
from dicom_node.housekeeping import completion
from dicom_node.housekeeping.completion import note_crashes
from dicom_node.ledger.leases import is_dead
from dicom_node.ledger.operations import get_job, list_jobs, release_lost_leases, retry
from dicom_node.ledger.series import list_series
from dicom_node.ledger.states import JobState, SeriesState
from dicom_node.work_order import Priority

PROCESS = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from support.ledger_factory import NodeFixture, START
from dicom_node.crashes import CrashRecord
from dicom_node.ledger.leases import owner_name
node = NodeFixture(Path({folder!r}))
"""

WORK = """
from dicom_node.settings import RetrySettings
from dicom_node.denoising.worker import Worker
from support.worker_stub import CopyDenoise
def act(_job, _should_stop):
    {act}
with CrashRecord(node.settings.crashes_folder, owner_name()) as record:
    Worker(node.ledger, node.inbox, node.outbox, node.settings.reports_folder, CopyDenoise(act),
           node.settings.retry, record=record, clock=lambda: START).work_once(lambda: False)
"""

INSPECT = """
from dicom_node.housekeeping import completion
def load(path, *, pixels):
    {act}
completion.load = load
with CrashRecord(node.settings.crashes_folder, owner_name()) as record:
    completion.Completion(node.ledger, node.inbox, node.settings, record=record).complete_series(
        START + 20)
"""

ABORT, KILL = "os.abort()", "os.kill(os.getpid(), 9)"
TESTS = str(Path(__file__).parents[2])


def run(node: NodeFixture, body: str, act: str) -> int:
    """Let a process of its own act on the node; returns how it ended."""
    code = PROCESS.format(tests=TESTS, folder=str(node.folder)) + body.format(act=act)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done.returncode


def release(node: NodeFixture, now: float = START) -> None:
    """What housekeeping does every few seconds."""
    causes = crash_causes(node.settings.crashes_folder, is_dead)
    release_lost_leases(node.ledger, now=now, attempts=10, is_dead=is_dead, crash=causes)


def test_a_job_that_aborts_its_worker_waits_behind_the_others_and_is_parked(
    node: NodeFixture,
) -> None:
    killer = node.job(series_uid="1.2", priority=Priority.URGENT)
    innocent = node.job(series_uid="1.3", now=START + 200)
    assert run(node, WORK, ABORT) == -6
    release(node)
    job = get_job(node.ledger, killer.id)
    assert (job.state, job.reason) == (JobState.QUEUED, "its process died of it (Aborted)")
    assert node.claim_job().id == innocent.id
    assert run(node, WORK, ABORT) == -6
    release(node)
    job = get_job(node.ledger, killer.id)
    assert job.state == JobState.FAILED
    assert job.reason.startswith("Parked: it has ended its process 2 times (Aborted)")
    assert f"`dicom-node jobs retry {killer.id}`" in job.reason


def test_a_parked_job_is_tried_again_by_an_operator(node: NodeFixture) -> None:
    killer = node.job()
    for _ in range(2):
        run(node, WORK, ABORT)
        release(node)
    assert retry(node.ledger, killer.id, now=START).state == JobState.QUEUED
    run(node, WORK, ABORT)
    release(node)
    assert get_job(node.ledger, killer.id).state == JobState.QUEUED


def test_who_is_killed_from_outside_is_not_parked(node: NodeFixture) -> None:
    """By an operator, a container engine, a power cut: the job is not the cause and proceeds."""
    job = node.job()
    for _ in range(4):
        assert run(node, WORK, KILL) == -9
        release(node)
    found = get_job(node.ledger, job.id)
    assert (found.state, found.attempts) == (JobState.QUEUED, 4)


def test_a_job_whose_process_stopped_is_queued_behind_the_others(node: NodeFixture) -> None:
    first = node.job(series_uid="1.2", now=START)
    second = node.job(series_uid="1.3", now=START + 200)
    run(node, WORK, KILL)
    release(node, now=START + 300)
    assert node.claim_job(START + 300).id == second.id
    assert get_job(node.ledger, first.id).state == JobState.QUEUED


def test_a_graceful_end_leaves_no_record(node: NodeFixture) -> None:
    with CrashRecord(node.settings.crashes_folder, "w") as record, record.holding("job 1"):
        assert read_crash(node.settings.crashes_folder, "w", lambda _: True) is None
    assert list(node.settings.crashes_folder.iterdir()) == []


def test_a_kill_for_want_of_memory_counts(
    node: NodeFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel counts whom it kills; another host's counter says nothing about this one."""
    counter = tmp_path / "vmstat"
    monkeypatch.setattr("dicom_node.crashes._COUNTERS", (counter,))
    counter.write_text("nr_free_pages 1\noom_kill 4\n")
    record = CrashRecord(node.settings.crashes_folder, "w")
    with record.__enter__().holding("job 7"):
        assert cause(node, lambda _: True) == ""
        counter.write_text("oom_kill 5\n")
        assert cause(node, lambda _: True) == OUT_OF_MEMORY
        assert cause(node, lambda _: False) == ""
    record.__exit__(None, None, None)


def cause(node: NodeFixture, dead: Callable[[str], bool]) -> str:
    return crash_causes(node.settings.crashes_folder, dead)("w")


def test_a_series_whose_inspection_kills_is_parked_and_others_proceed(
    node: NodeFixture,
) -> None:
    uid = node.arrive_series(slices=3)
    for deaths in (1, 2):
        assert run(node, INSPECT, ABORT) == -6
        note_crashes(node.ledger, node.settings)
        (series,) = list_series(node.ledger)
        assert (series.deaths, series.state) == (deaths, SeriesState.ARRIVING)
    node.arrive_series(slices=3, study="another")
    House(node).complete_series(START + 20)
    found = {series.series_uid: series for series in list_series(node.ledger)}
    parked = found.pop(uid)
    assert parked.state == SeriesState.SKIPPED
    assert parked.reason.startswith("Parked: reading its headers has killed the process twice")
    assert [series.state for series in found.values()] == [SeriesState.ENQUEUED]
    assert len(list_jobs(node.ledger)) == 1


def test_a_further_image_gives_a_parked_series_one_more_look(node: NodeFixture) -> None:
    uid = node.arrive_series(slices=3)
    for _ in range(2):
        run(node, INSPECT, ABORT)
        note_crashes(node.ledger, node.settings)
    House(node).complete_series(START + 20)
    node.arrive(series_uid=uid, sop_uid="1.2.9", now=START + 30)
    (series,) = list_series(node.ledger)
    assert (series.deaths, series.state) == (1, SeriesState.ARRIVING)


def test_headers_that_need_too_much_memory_delay_no_other_series(
    node: NodeFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = node.arrive_series(slices=3)
    load = completion.load

    def greedy(path: Path, *, pixels: bool):  # type: ignore[no-untyped-def]
        header = load(path, pixels=pixels)
        if header.SeriesInstanceUID == large:
            header.hoard = [bytearray(64 << 20) for _ in range(8)]
        return header

    monkeypatch.setattr(completion, "load", greedy)
    node.arrive_series(slices=3, study="another")
    House(node).complete_series(START + 20)
    found = {series.series_uid: series for series in list_series(node.ledger)}
    parked = found.pop(large)
    assert parked.state == SeriesState.SKIPPED
    assert "need more memory" in parked.reason
    assert [series.state for series in found.values()] == [SeriesState.ENQUEUED]

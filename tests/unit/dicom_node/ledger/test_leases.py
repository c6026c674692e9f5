"""Owners, heartbeats and what becomes of a job whose stage went wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from support.ledger_factory import START, NodeFixture

from dicom_node.errors import InputError, StorageError
from dicom_node.ledger import leases
from dicom_node.ledger.jobs import JobClaim
from dicom_node.ledger.leases import Heartbeat, OutageLog, is_dead, owner_name, work_until
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import cancel, get_job, wake_waiting
from dicom_node.ledger.states import JobState

DEADLINE_SECONDS = 20.0


def test_an_owner_lives_until_its_process_ends() -> None:
    program = (
        "from dicom_node.ledger.leases import owner_name; print(owner_name(), flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        owner = process.stdout.readline().strip()
        alive = is_dead(owner)
        process.kill()
    assert (alive, is_dead(owner)) == (False, True)
    assert not is_dead(owner_name())


def test_nobody_elsewhere_is_taken_for_dead() -> None:
    here = owner_name()
    machine = here.rsplit(" ", 2)[0]
    assert is_dead(f"{machine} {os.getpid()} 1")  # the number went to another process since
    assert not is_dead(f"another-{machine} {os.getpid()} 1")
    assert not is_dead("w")


def test_a_heartbeat_notices_that_the_job_was_taken(node: NodeFixture) -> None:
    node.job()
    job = node.claim_job()
    with Heartbeat(job, lease_seconds=0.03) as beat:
        cancel(node.ledger, job.id, now=START)
        assert beat.lost.wait(DEADLINE_SECONDS)


def test_a_heartbeat_outlives_a_passing_fault_of_the_disk(
    node: NodeFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.job()
    job = node.claim_job()
    beaten = threading.Semaphore(0)

    def away(*_args: object, **_fields: object) -> bool:
        beaten.release()
        raise StorageError("the ledger cannot be used.")

    now = START
    monkeypatch.setattr(JobClaim, "beat", away)
    with Heartbeat(job, lease_seconds=0.03, monotonic=lambda: now) as beat:
        assert beaten.acquire(timeout=DEADLINE_SECONDS)
        assert beaten.acquire(timeout=DEADLINE_SECONDS)
        assert not beat.lost.is_set()
        now = START + 1
        assert beat.lost.wait(DEADLINE_SECONDS)


def settle(node: NodeFixture, error: Exception, now: float) -> Job:
    return node.claim_job(now).settle(error, node.settings.retry)


def test_a_lasting_fault_fails_at_once(node: NodeFixture) -> None:
    node.job()
    job = settle(node, InputError("two orientations"), START)
    assert (job.state, job.reason) == (JobState.FAILED, "two orientations")


def waits(node: NodeFixture, error: Exception, times: int) -> tuple[list[float], float]:
    """The pauses after a fault that comes again and again, and when the last is over."""
    now, pauses = START, []
    for _ in range(times):
        job = settle(node, error, now)
        assert job.state == JobState.RETRY_WAIT
        pauses.append(job.next_at - now)
        now = job.next_at
        wake_waiting(node.ledger, now=now)
    return pauses, now


def test_a_fault_that_is_known_to_pass_waits_longer_each_time_for_ever(node: NodeFixture) -> None:
    node.job()
    pauses, _ = waits(node, StorageError("disk full."), 6)
    assert pauses == [30, 60, 100, 100, 100, 100]


def test_an_unforeseen_fault_ends_when_the_attempts_are_spent(node: NodeFixture) -> None:
    node.job()
    waits(node, StorageError("disk full."), 6)
    pauses, now = waits(node, RuntimeError("out of memory"), 2)
    job = settle(node, RuntimeError("out of memory"), now)
    assert pauses == [100, 100]
    assert job.state == JobState.FAILED
    assert job.reason.startswith("unexpected RuntimeError")
    assert job.reason.endswith("(after 3 attempts)")


def test_an_unforeseen_fault_is_told_without_its_words(node: NodeFixture) -> None:
    node.job()
    try:
        raise ValueError("CANARY^NAME")
    except ValueError as error:
        job = settle(node, error, START)
    assert job.state == JobState.RETRY_WAIT
    assert job.reason.startswith("unexpected ValueError at test_leases.py:")
    assert "CANARY" not in job.reason


def test_a_loop_waits_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: Iterator[int] = iter(range(3))
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.0)
    done = []

    def step(_should_stop: object) -> bool:
        done.append(next(steps))
        if len(done) == 1:
            raise StorageError("disk full.")
        return True

    work_until(step, lambda: len(done) == 3)
    assert done == [0, 1, 2]


def test_an_outage_is_logged_when_it_changes_and_once_a_minute() -> None:
    now = START
    outage = OutageLog(lambda: now)
    with capture_logs() as lines:
        for reason in ("The ledger is locked.", "The ledger is locked.", "No space is left."):
            outage.report(StorageError(reason))
        now += 61
        outage.report(StorageError("No space is left."))
    events = [line["event"] for line in lines]
    assert events == ["waiting for the ledger", "waiting for the disk", "waiting for the disk"]


def test_a_released_job_is_still_there(node: NodeFixture) -> None:
    node.job()
    job = node.claim_job()
    with Heartbeat(job):
        pass
    assert get_job(node.ledger, job.id).owner == "w"

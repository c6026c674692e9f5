"""Housekeeping: completion with its decision, dead owners, waking, retention, leftovers."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support.ledger_factory import START, House, NodeFixture

from dicom_node.housekeeping import completion, run_housekeeping, sweeps
from dicom_node.housekeeping.completion import Completion
from dicom_node.housekeeping.retention import SECONDS_PER_DAY
from dicom_node.ledger.operations import cancel, get_job, list_jobs
from dicom_node.ledger.series import list_series
from dicom_node.ledger.states import JobState, SeriesState

DAYS = 3.0


@pytest.fixture
def house(node: NodeFixture) -> House:
    return House(node)


def test_a_quiet_ct_series_gets_its_job(node: NodeFixture, house: House) -> None:
    uid = node.arrive_series()
    house.complete_series(START + 9)
    assert list_jobs(node.ledger) == []
    house.complete_series(START + 10)
    house.complete_series(START + 11)
    (job,) = list_jobs(node.ledger)
    assert (job.series_uid, job.state, job.model) == (uid, JobState.QUEUED, "identity")
    assert [item.destination for item in job.deliveries] == ["pacs"]


def test_the_same_series_again_makes_no_second_job(node: NodeFixture, house: House) -> None:
    node.arrive_series()
    house.complete_series(START + 10)
    node.arrive_series(now=START + 20)
    house.complete_series(START + 1000)
    assert len(list_jobs(node.ledger)) == 1


def test_what_is_not_for_us_is_skipped_with_its_reason(node: NodeFixture, house: House) -> None:
    node.arrive_series(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    house.complete_series(START + 10)
    (series,) = list_series(node.ledger)
    assert (series.state, series.reason) == (SeriesState.SKIPPED, "localizer (scout) images")
    assert list_jobs(node.ledger) == []


def test_a_series_that_cannot_be_read_is_skipped(node: NodeFixture, house: House) -> None:
    node.arrive(b"no data set")
    house.complete_series(START + 10)
    (series,) = list_series(node.ledger)
    assert series.state == SeriesState.SKIPPED
    assert series.reason


def test_one_series_without_a_decision_holds_up_no_other(
    node: NodeFixture, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.arrive(b"no data set", series_uid="1.1")
    uid = node.arrive_series()
    decided = completion.decide

    def fault_at_first(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(completion, "decide", decided)
        raise RuntimeError("a fault")

    monkeypatch.setattr(completion, "decide", fault_at_first)
    house.complete_series(START + 10)
    assert [job.series_uid for job in list_jobs(node.ledger)] == [uid]


def test_lost_leases_and_pauses_end(node: NodeFixture, house: House) -> None:
    lost, waiting = node.job(series_uid="1.2"), node.job(series_uid="1.3")
    node.claim_job(owner="lost")
    node.claim_job().retry_later("", delay_seconds=30)
    house.release_leases(START + 61)
    house.wake_jobs(START + 61)
    states = [get_job(node.ledger, job.id).state for job in (lost, waiting)]
    assert states == [JobState.QUEUED, JobState.QUEUED]


def test_retention_takes_what_is_old_and_owed_to_nobody(node: NodeFixture, house: House) -> None:
    unsent, closed = node.job(series_uid="1.2"), node.job(series_uid="1.3")
    for job in (unsent, closed):
        claim = node.claim_job()
        staging = node.outbox.stage(job.token)
        (staging / "0001.dcm").write_bytes(b"derived")
        node.outbox.commit(job.token, staging)
        claim.derived(1)
    cancel(node.ledger, closed.id, now=START)
    house.enforce_retention(START + (DAYS - 1) * SECONDS_PER_DAY)
    assert node.outbox.tokens() == {unsent.token, closed.token}
    house.enforce_retention(START + (DAYS + 1) * SECONDS_PER_DAY)
    assert node.outbox.tokens() == {unsent.token}
    kept = [series.series_uid for series in list_series(node.ledger, states=[SeriesState.ENQUEUED])]
    assert kept == ["1.2"]
    assert len(list(node.inbox.root.rglob("*.dcm"))) == 1


def test_leftovers_of_the_dead_are_swept_and_work_in_hand_is_not(
    node: NodeFixture, house: House
) -> None:
    busy = node.job()
    node.claim_job()
    in_hand, dead = node.outbox.stage(busy.token), node.outbox.stage("dead")
    house.sweep_leftovers()
    assert (in_hand.exists(), dead.exists()) == (True, False)


def test_the_clock_runs_the_sweeps_and_outlives_their_faults(
    node: NodeFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "COMPLETION_SECONDS", 0.02)
    swept = threading.Semaphore(0)

    def fault(_house: House, _now: float) -> None:
        swept.release()
        raise RuntimeError("a fault")

    monkeypatch.setattr(Completion, "complete_series", fault)
    run_housekeeping(
        node.settings, should_stop=lambda: swept.acquire(timeout=10) and swept.acquire(timeout=10)
    )

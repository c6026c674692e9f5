"""Jobs in the ledger: transitions, claims, leases, retries, deliveries, history."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import sqlalchemy as sa
from ledger_factory import START, NodeFixture

from dicom_node.errors import InputError, StorageError
from dicom_node.ledger.deliveries import confirm, confirmed_names, note_fault
from dicom_node.ledger.history import of_job
from dicom_node.ledger.jobs import (
    LeaseLost,
    claim,
    derived,
    done,
    fail,
    give_back,
    heartbeat,
    retry_later,
)
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import (
    cancel,
    get_job,
    list_jobs,
    release_lost_leases,
    retry,
    status,
    wake_waiting,
)
from dicom_node.ledger.states import (
    TRANSITIONS,
    DeliveryState,
    JobState,
    SeriesState,
    WrongState,
    check_transition,
)

PATH = ("QUEUED", "DENOISING", "DERIVED", "SENDING", "DONE")


def claimed(node: NodeFixture, now: float = START, owner: str = "w") -> Job:
    job = claim(node.ledger, stage="denoise", owner=owner, now=now)
    assert job is not None
    return job


def sending(node: NodeFixture, *, count: int = 2, now: float = START) -> Job:
    derived(node.ledger, claimed(node).id, owner="w", count=count, now=now)
    job = claim(node.ledger, stage="send", owner="s", now=now)
    assert job is not None
    return job


@pytest.mark.parametrize(("before", "after"), list(product(JobState, JobState)))
def test_the_table_decides_every_transition(before: JobState, after: JobState) -> None:
    if after in TRANSITIONS[before]:
        check_transition(TRANSITIONS, before, after, "job 1")
    else:
        with pytest.raises(WrongState, match=f"job 1 is {before} and cannot become {after}"):
            check_transition(TRANSITIONS, before, after, "job 1")


def test_every_state_is_in_the_table_and_derived_never_leads_to_denoising() -> None:
    assert set(TRANSITIONS) == set(JobState)
    assert JobState.DENOISING not in TRANSITIONS[JobState.DERIVED] | TRANSITIONS[JobState.SENDING]


def test_the_straight_line_is_the_history(node: NodeFixture) -> None:
    node.job()
    job = sending(node)
    statuses = {"0001.dcm": 0, "0002.dcm": 0}
    assert confirm(node.ledger, job.deliveries[0].id, owner="s", statuses=statuses, now=START)
    assert done(node.ledger, job.id, owner="s", now=START).owner is None
    events = of_job(node.ledger, job.id)
    assert tuple(event.after for event in events) == PATH
    assert [event.before for event in events] == ["", *PATH[:-1]]
    assert [event.owner for event in events] == ["", "w", "w", "s", "s"]


def test_a_job_is_claimed_once_and_the_oldest_first(node: NodeFixture) -> None:
    younger = node.job(series_uid="1.3", now=START + 1)
    older = node.job(series_uid="1.2", now=START)
    now = START + 2
    assert [claimed(node, now).id, claimed(node, now).id] == [older.id, younger.id]
    assert claim(node.ledger, stage="denoise", owner="w", now=now) is None
    assert claim(node.ledger, stage="send", owner="s", now=now) is None


@pytest.mark.parametrize(
    "act",
    [
        lambda node, job: derived(node.ledger, job, owner="other", count=1, now=START),
        lambda node, job: done(node.ledger, job, owner="other", now=START),
        lambda node, job: fail(node.ledger, job, owner="other", reason="", now=START),
        lambda node, job: give_back(node.ledger, job, owner="other", now=START),
        lambda node, job: retry_later(
            node.ledger, job, owner="other", reason="", next_at=START, now=START
        ),
    ],
)
def test_only_the_owner_moves_a_job(
    node: NodeFixture, act: Callable[[NodeFixture, int], object]
) -> None:
    node.job()
    job = claimed(node)
    with pytest.raises(LeaseLost):
        act(node, job.id)
    assert get_job(node.ledger, job.id) == job


def test_a_heartbeat_keeps_the_lease_and_silence_loses_it(node: NodeFixture) -> None:
    node.job()
    job = claimed(node)
    assert heartbeat(node.ledger, job.id, owner="w", now=START + 50)
    assert release_lost_leases(node.ledger, now=START + 100, attempts=3) == []
    (lost,) = release_lost_leases(node.ledger, now=START + 111, attempts=3)
    assert (lost.state, lost.owner) == (JobState.QUEUED, None)
    assert not heartbeat(node.ledger, job.id, owner="w", now=START + 112)


def test_the_job_of_a_process_known_dead_returns_at_once(node: NodeFixture) -> None:
    node.job()
    claimed(node)
    released = release_lost_leases(
        node.ledger, now=START, attempts=3, is_dead=lambda owner: owner == "w"
    )
    assert [job.state for job in released] == [JobState.QUEUED]


def test_a_lost_sender_costs_no_second_denoising(node: NodeFixture) -> None:
    node.job()
    sending(node)
    (lost,) = release_lost_leases(node.ledger, now=START + 1000, attempts=3)
    assert lost.state == JobState.DERIVED
    assert claim(node.ledger, stage="denoise", owner="w", now=START + 1000) is None


def test_a_job_that_kills_its_worker_again_and_again_fails(node: NodeFixture) -> None:
    node.job()
    states = []
    for attempt in range(3):
        now = START + 1000 * attempt
        claimed(node, now)
        states += [j.state for j in release_lost_leases(node.ledger, now=now + 999, attempts=3)]
    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]


def test_a_job_given_back_has_lost_no_attempt(node: NodeFixture) -> None:
    node.job()
    job = give_back(node.ledger, claimed(node).id, owner="w", now=START)
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)


def test_a_waiting_job_wakes_in_the_stage_that_is_missing(node: NodeFixture) -> None:
    node.job()
    job = claimed(node)
    retry_later(node.ledger, job.id, owner="w", reason="disk", next_at=START + 30, now=START)
    assert wake_waiting(node.ledger, now=START + 29) == []
    assert [j.state for j in wake_waiting(node.ledger, now=START + 30)] == [JobState.QUEUED]
    derived(node.ledger, claimed(node, START + 30).id, owner="w", count=1, now=START + 30)
    claim(node.ledger, stage="send", owner="s", now=START + 30)
    retry_later(node.ledger, job.id, owner="s", reason="away", next_at=START + 60, now=START + 31)
    assert [j.state for j in wake_waiting(node.ledger, now=START + 60)] == [JobState.DERIVED]


def test_an_operator_retries_a_failed_job(node: NodeFixture) -> None:
    node.job()
    job = sending(node)
    delivery = job.deliveries[0]
    note_fault(node.ledger, delivery.id, owner="s", reason="refused", lasting=True)
    fail(node.ledger, job.id, owner="s", reason="refused", now=START)
    again = retry(node.ledger, job.id, now=START + 5)
    assert (again.state, again.attempts) == (JobState.DERIVED, 0)
    assert again.deliveries[0].state == DeliveryState.PENDING


def test_an_operator_cancels_work_under_way(node: NodeFixture) -> None:
    node.job()
    job = claimed(node)
    assert cancel(node.ledger, job.id, now=START).state == JobState.CANCELLED
    assert not heartbeat(node.ledger, job.id, owner="w", now=START + 1)
    with pytest.raises(WrongState):
        cancel(node.ledger, job.id, now=START)
    assert retry(node.ledger, job.id, now=START).state == JobState.QUEUED
    with pytest.raises(WrongState, match="under way already"):
        retry(node.ledger, job.id, now=START)


@pytest.mark.parametrize("act", [retry, cancel])
def test_an_unknown_job_is_told(node: NodeFixture, act: Callable[..., Job]) -> None:
    with pytest.raises(InputError, match="there is no job 7"):
        act(node.ledger, 7, now=START)


def test_images_are_confirmed_one_by_one(node: NodeFixture) -> None:
    node.job(destinations=["pacs", "archive"])
    job = sending(node)
    pacs, archive = job.deliveries
    assert not confirm(node.ledger, pacs.id, owner="s", statuses={"1.dcm": 0}, now=START)
    note_fault(node.ledger, archive.id, owner="s", reason="away", lasting=False)
    assert confirmed_names(node.ledger, pacs.id) == {"1.dcm"}
    statuses = {"1.dcm": 0, "2.dcm": 0xB000}
    assert confirm(node.ledger, pacs.id, owner="s", statuses=statuses, now=START)
    now_pacs, now_archive = get_job(node.ledger, job.id).deliveries
    assert (now_pacs.state, now_pacs.confirmed) == (DeliveryState.CONFIRMED, 2)
    assert (now_archive.state, now_archive.reason) == (DeliveryState.PENDING, "away")
    with pytest.raises(WrongState, match="a destination has not confirmed"):
        done(node.ledger, job.id, owner="s", now=START)
    with pytest.raises(LeaseLost):
        confirm(node.ledger, archive.id, owner="other", statuses={}, now=START)


def test_the_queue_at_a_glance(node: NodeFixture) -> None:
    node.job(series_uid="1.2", now=START)
    node.job(series_uid="1.3", now=START + 1)
    node.arrive(series_uid="1.4", now=START + 2)
    claimed(node)
    seen = status(node.ledger)
    assert seen.series == {SeriesState.ENQUEUED: 2, SeriesState.ARRIVING: 1}
    assert seen.jobs == {JobState.DENOISING: 1, JobState.QUEUED: 1}
    assert seen.oldest_open_at == START
    assert [job.id for job in list_jobs(node.ledger)] == [2, 1]
    assert [job.id for job in list_jobs(node.ledger, states=[JobState.DENOISING])] == [1]
    assert len(list_jobs(node.ledger, limit=1)) == 1


@pytest.mark.parametrize("statement", ["DELETE FROM history", "UPDATE history SET after = ''"])
def test_the_history_cannot_be_changed(node: NodeFixture, statement: str) -> None:
    node.job()
    with pytest.raises(StorageError, match="append-only"), node.ledger.write() as session:
        session.execute(sa.text(statement))

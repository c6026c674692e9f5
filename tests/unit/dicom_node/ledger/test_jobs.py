"""Jobs in the ledger: transitions, claims, priorities, leases, retries, history."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import sqlalchemy as sa
from support.ledger_factory import START, NodeFixture

from dicom_node.errors import InputError, StorageError
from dicom_node.ledger.deliveries import Sent, claim_delivery, confirm, note_sent, postpone, refuse
from dicom_node.ledger.history import of_job
from dicom_node.ledger.jobs import (
    OFF_PEAK,
    URGENT,
    LeaseLost,
    claim,
    derived,
    fail,
    give_back,
    heartbeat,
    retry_later,
)
from dicom_node.ledger.model import Delivery, Job
from dicom_node.ledger.operations import (
    cancel,
    get_job,
    list_jobs,
    mark_notified,
    release_lost_leases,
    retry,
    status,
    unnotified,
    wake_waiting,
)
from dicom_node.ledger.pauses import pause, resume
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
    job = claim(node.ledger, owner=owner, off_peak=False, now=now)
    assert job is not None
    return job


def sending(node: NodeFixture, *, count: int = 2, now: float = START) -> Delivery:
    derived(node.ledger, claimed(node).id, owner="w", count=count, now=now)
    delivery = claim_delivery(node.ledger, "pacs", owner="s", now=now)
    assert delivery is not None
    return delivery


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
    delivery = sending(node)
    sent = {"0001.dcm": Sent("1.9.1", 0), "0002.dcm": Sent("1.9.2", 0)}
    assert note_sent(node.ledger, delivery.id, owner="s", sent=sent, now=START)
    assert confirm(node.ledger, delivery.id, owner="s", now=START).owner is None
    every = of_job(node.ledger, delivery.job_id)
    events = [event for event in every if not event.destination]
    assert tuple(event.after for event in events) == PATH
    assert [event.before for event in events] == ["", *PATH[:-1]]
    assert [event.owner for event in events] == ["", "w", "w", "s", "s"]
    assert [(event.after, event.owner) for event in every if event.destination == "pacs"] == [
        ("SENDING", "s"),
        ("CONFIRMED", "s"),
    ]


def test_a_job_is_claimed_once_and_the_oldest_first(node: NodeFixture) -> None:
    younger = node.job(series_uid="1.3", now=START + 1)
    older = node.job(series_uid="1.2", now=START)
    now = START + 2
    assert [claimed(node, now).id, claimed(node, now).id] == [older.id, younger.id]
    assert claim(node.ledger, owner="w", off_peak=True, now=now) is None


def test_urgent_jobs_go_first_and_off_peak_ones_wait_for_their_hours(node: NodeFixture) -> None:
    off_peak = node.job(series_uid="1.2", priority=OFF_PEAK)
    normal = node.job(series_uid="1.3")
    urgent = node.job(series_uid="1.4", priority=URGENT, now=START + 9)
    assert [claimed(node).id, claimed(node).id] == [urgent.id, normal.id]
    assert claim(node.ledger, owner="w", off_peak=False, now=START) is None
    evening = claim(node.ledger, owner="w", off_peak=True, now=START)
    assert evening is not None
    assert evening.id == off_peak.id


def test_nothing_is_begun_while_denoising_is_paused(node: NodeFixture) -> None:
    job = node.job()
    pause(node.ledger, "denoise", reason="new graphics card", now=START)
    assert claim(node.ledger, owner="w", off_peak=True, now=START) is None
    assert [item.reason for item in status(node.ledger).pauses] == ["new graphics card"]
    assert resume(node.ledger, "denoise")
    assert not resume(node.ledger, "denoise")
    assert claimed(node).id == job.id


@pytest.mark.parametrize("stage", ["", "derive", "send:", "denoise:pacs"])
def test_an_unknown_stage_is_told(node: NodeFixture, stage: str) -> None:
    with pytest.raises(InputError, match="write denoise, send or send:DESTINATION"):
        pause(node.ledger, stage, reason="", now=START)


@pytest.mark.parametrize(
    "act",
    [
        lambda node, job: derived(node.ledger, job, owner="other", count=1, now=START),
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
    assert (lost.state, lost.deliveries[0].state) == (JobState.RETRY_WAIT, DeliveryState.PENDING)
    assert claim(node.ledger, owner="w", off_peak=True, now=START + 1000) is None
    assert claim_delivery(node.ledger, "pacs", owner="s", now=START + 1000)


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


def test_a_waiting_job_wakes_when_its_time_has_come(node: NodeFixture) -> None:
    node.job()
    job = claimed(node)
    retry_later(node.ledger, job.id, owner="w", reason="disk", next_at=START + 30, now=START)
    assert wake_waiting(node.ledger, now=START + 29) == []
    assert [j.state for j in wake_waiting(node.ledger, now=START + 30)] == [JobState.QUEUED]


def test_a_job_that_waits_to_be_sent_is_not_denoised_again(node: NodeFixture) -> None:
    node.job()
    delivery = sending(node)
    postpone(node.ledger, delivery.id, owner="s", reason="away", next_at=START, now=START)
    assert wake_waiting(node.ledger, now=START + 60) == []
    assert get_job(node.ledger, delivery.job_id).state == JobState.RETRY_WAIT


def test_an_operator_retries_a_failed_job(node: NodeFixture) -> None:
    node.job()
    delivery = sending(node)
    refuse(node.ledger, delivery.id, owner="s", reason="refused", now=START)
    failed = get_job(node.ledger, delivery.job_id)
    assert (failed.state, failed.reason) == (JobState.FAILED, "refused")
    again = retry(node.ledger, failed.id, now=START + 5)
    assert (again.state, again.attempts, again.reason) == (JobState.DERIVED, 0, "")
    assert again.deliveries[0].state == DeliveryState.PENDING


def test_a_failed_job_is_told_of_once_and_once_more_when_it_fails_again(
    node: NodeFixture,
) -> None:
    job = node.job()
    fail(node.ledger, claimed(node).id, owner="w", reason="two orientations", now=START)
    assert [item.id for item in unnotified(node.ledger)] == [job.id]
    mark_notified(node.ledger, job.id, now=START)
    assert unnotified(node.ledger) == []
    retry(node.ledger, job.id, now=START)
    fail(node.ledger, claimed(node).id, owner="w", reason="two orientations", now=START)
    assert [item.id for item in unnotified(node.ledger)] == [job.id]


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


@pytest.mark.parametrize("strength", [0, 0.0, 1, 1.0, 0.5, 0.1 + 0.2, 1e-5, 1 / 3])
def test_a_claimed_strength_is_the_float_that_was_ordered(
    node: NodeFixture, strength: float
) -> None:
    node.job(strength=strength)
    job = claimed(node)
    assert (job.strength, type(job.strength)) == (strength, float)
    again = get_job(node.ledger, job.id)
    assert (again.strength, type(again.strength)) == (strength, float)
    moments = (job.next_at, job.created_at, job.updated_at)
    assert {type(moment) for moment in moments} == {float}

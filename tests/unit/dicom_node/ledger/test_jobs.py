"""Jobs in the ledger: transitions, claims, priorities, leases, retries, history."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import pytest
import sqlalchemy as sa
from support.ledger_factory import START, NodeFixture, at, later

from dicom_node.errors import InputError, StorageError
from dicom_node.ledger.claim import LeaseLost
from dicom_node.ledger.deliveries import DeliveryClaim, Sent
from dicom_node.ledger.history import of_job
from dicom_node.ledger.jobs import (
    JobClaim,
    claim_job,
    enqueue,
)
from dicom_node.ledger.lineage import first_gain, uncovered_names
from dicom_node.ledger.model import Job
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
from dicom_node.settings import RetrySettings
from dicom_node.work_order import AUTO, MeasuredGain, Priority, WorkOrder

PATH = ("QUEUED", "DENOISING", "DERIVED", "SENDING", "DONE")


def sending(node: NodeFixture) -> DeliveryClaim:
    node.claim_job().derived(2)
    return node.claim_delivery()


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
    assert delivery.note_sent(sent)
    assert delivery.confirm().owner is None
    every = of_job(node.ledger, delivery.delivery.job_id)
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
    assert [node.claim_job(now).id, node.claim_job(now).id] == [older.id, younger.id]
    assert claim_job(node.ledger, owner="w", off_peak=True, clock=at(now)) is None


def test_urgent_jobs_go_first_and_off_peak_ones_wait_for_their_hours(node: NodeFixture) -> None:
    off_peak = node.job(series_uid="1.2", priority=Priority.OFF_PEAK)
    normal = node.job(series_uid="1.3")
    urgent = node.job(series_uid="1.4", priority=Priority.URGENT, now=START + 9)
    assert [node.claim_job().id, node.claim_job().id] == [urgent.id, normal.id]
    assert claim_job(node.ledger, owner="w", off_peak=False, clock=at(START)) is None
    assert node.claim_job(off_peak=True).id == off_peak.id


def test_nothing_is_begun_while_denoising_is_paused(node: NodeFixture) -> None:
    job = node.job()
    pause(node.ledger, "denoise", reason="new graphics card", now=START)
    assert claim_job(node.ledger, owner="w", off_peak=True, clock=at(START)) is None
    assert [item.reason for item in status(node.ledger).pauses] == ["new graphics card"]
    assert resume(node.ledger, "denoise")
    assert not resume(node.ledger, "denoise")
    assert node.claim_job().id == job.id


@pytest.mark.parametrize("stage", ["", "derive", "send:", "denoise:pacs"])
def test_an_unknown_stage_is_told(node: NodeFixture, stage: str) -> None:
    with pytest.raises(InputError, match="write denoise, send or send:DESTINATION"):
        pause(node.ledger, stage, reason="", now=START)


@pytest.mark.parametrize(
    "act",
    [
        lambda claim: claim.derived(1),
        lambda claim: claim.fail(""),
        lambda claim: claim.give_back(),
        lambda claim: claim.retry_later("", delay_seconds=0),
        lambda claim: claim.settle(InputError("two orientations"), RetrySettings()),
    ],
)
def test_only_the_owner_moves_a_job(node: NodeFixture, act: Callable[[JobClaim], object]) -> None:
    node.job()
    claim = node.claim_job()
    with pytest.raises(LeaseLost, match=f"Job {claim.id} no longer belongs to this process"):
        act(replace(claim, owner="other"))
    assert get_job(node.ledger, claim.id) == claim.job


def test_a_heartbeat_keeps_the_lease_and_silence_loses_it(node: NodeFixture) -> None:
    node.job()
    claim = node.claim_job()
    assert later(claim, START + 50).beat()
    assert release_lost_leases(node.ledger, now=START + 100, attempts=3) == []
    (lost,) = release_lost_leases(node.ledger, now=START + 111, attempts=3)
    assert (lost.state, lost.owner) == (JobState.QUEUED, None)
    assert lost.reason.startswith("its lease ran out: its process died, or could not reach")
    assert not later(claim, START + 112).beat()


def test_the_job_of_a_process_known_dead_returns_at_once(node: NodeFixture) -> None:
    node.job()
    node.claim_job()
    released = release_lost_leases(
        node.ledger, now=START, attempts=3, is_dead=lambda owner: owner == "w"
    )
    assert [job.state for job in released] == [JobState.QUEUED]
    assert released[0].reason == "its process stopped in the middle of the work"


def test_a_lost_sender_costs_no_second_denoising(node: NodeFixture) -> None:
    node.job()
    sending(node)
    (lost,) = release_lost_leases(node.ledger, now=START + 1000, attempts=3)
    assert (lost.state, lost.deliveries[0].state) == (JobState.RETRY_WAIT, DeliveryState.PENDING)
    assert claim_job(node.ledger, owner="w", off_peak=True, clock=at(START + 1000)) is None
    assert node.claim_delivery(now=START + 1000)


def test_a_job_that_kills_its_worker_again_and_again_fails(node: NodeFixture) -> None:
    node.job()
    states = []
    for attempt in range(3):
        now = START + 1000 * attempt
        node.claim_job(now)
        states += [j.state for j in release_lost_leases(node.ledger, now=now + 999, attempts=3)]
    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]


def test_a_job_given_back_has_lost_no_attempt(node: NodeFixture) -> None:
    node.job()
    job = node.claim_job().give_back()
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)


def test_a_waiting_job_wakes_when_its_time_has_come(node: NodeFixture) -> None:
    node.job()
    node.claim_job().retry_later("disk", delay_seconds=30)
    assert wake_waiting(node.ledger, now=START + 29) == []
    assert [j.state for j in wake_waiting(node.ledger, now=START + 30)] == [JobState.QUEUED]


def test_a_job_that_waits_to_be_sent_is_not_denoised_again(node: NodeFixture) -> None:
    node.job()
    delivery = sending(node)
    delivery.retry_later("away", delay_seconds=0)
    assert wake_waiting(node.ledger, now=START + 60) == []
    assert get_job(node.ledger, delivery.delivery.job_id).state == JobState.RETRY_WAIT


def test_an_operator_retries_a_failed_job(node: NodeFixture) -> None:
    node.job()
    delivery = sending(node)
    delivery.fail("refused")
    failed = get_job(node.ledger, delivery.delivery.job_id)
    assert (failed.state, failed.reason) == (JobState.FAILED, "refused")
    again = retry(node.ledger, failed.id, now=START + 5)
    assert (again.state, again.attempts, again.reason) == (JobState.DERIVED, 0, "")
    assert again.deliveries[0].state == DeliveryState.PENDING


def test_a_failed_job_is_told_of_once_and_once_more_when_it_fails_again(
    node: NodeFixture,
) -> None:
    job = node.job()
    node.claim_job().fail("two orientations")
    assert [item.id for item in unnotified(node.ledger)] == [job.id]
    mark_notified(node.ledger, job.id, now=START)
    assert unnotified(node.ledger) == []
    retry(node.ledger, job.id, now=START)
    node.claim_job().fail("two orientations")
    assert [item.id for item in unnotified(node.ledger)] == [job.id]


def test_an_operator_cancels_work_under_way(node: NodeFixture) -> None:
    node.job()
    job = node.claim_job()
    assert cancel(node.ledger, job.id, now=START).state == JobState.CANCELLED
    assert not job.beat()
    with pytest.raises(WrongState):
        cancel(node.ledger, job.id, now=START)
    assert retry(node.ledger, job.id, now=START).state == JobState.QUEUED
    with pytest.raises(WrongState, match="under way already"):
        retry(node.ledger, job.id, now=START)


def test_a_retry_of_a_job_that_is_done_says_so(node: NodeFixture) -> None:
    node.job()
    delivery = sending(node)
    delivery.note_sent({"1": Sent("1.9.1", 0), "2": Sent("1.9.2", 0)})
    delivery.confirm()
    with pytest.raises(WrongState, match="Job 1 is done already: every destination has its"):
        retry(node.ledger, 1, now=START)


@pytest.mark.parametrize("act", [retry, cancel])
def test_an_unknown_job_is_told(node: NodeFixture, act: Callable[..., Job]) -> None:
    with pytest.raises(InputError, match="There is no job 7"):
        act(node.ledger, 7, now=START)


def test_the_queue_at_a_glance(node: NodeFixture) -> None:
    node.job(series_uid="1.2", now=START)
    node.job(series_uid="1.3", now=START + 1)
    node.arrive(series_uid="1.4", now=START + 2)
    node.claim_job()
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
    job = node.claim_job().job
    assert (job.strength, type(job.strength)) == (strength, float)
    again = get_job(node.ledger, job.id)
    assert (again.strength, type(again.strength)) == (strength, float)
    assert job.dose_gain is again.dose_gain is None
    moments = (job.next_at, job.created_at, job.updated_at)
    assert {type(moment) for moment in moments} == {float}


@pytest.mark.parametrize("gain", [1, 4, 4.0, 2.35, 0.1 + 1.2])
def test_a_claimed_dose_gain_is_the_float_that_was_ordered(node: NodeFixture, gain: float) -> None:
    node.job(dose_gain=gain)
    claim = node.claim_job()
    claim.fail("no")
    retry(node.ledger, claim.id, now=START)
    again = node.claim_job(START).job
    assert (claim.job.dose_gain, type(claim.job.dose_gain)) == (gain, float)
    assert (again.dose_gain, type(again.dose_gain)) == (gain, float)


def test_all_jobs_of_a_series_keep_the_gain_that_was_measured_first(node: NodeFixture) -> None:
    """Also where two workers have measured at the same time, and where a job begins again."""
    node.job(target_noise_hu=10.0)
    first = node.claim_job(owner="a")
    assert first_gain(node.ledger, first.job) is None
    node.arrive(b"late", sop_uid="1.2.2", now=START + 50)
    (series,) = node.complete(START + 60)
    order = WorkOrder("identity", 1.0, ("pacs",), target_noise_hu=10.0)
    assert enqueue(node.ledger, series, order, now=START + 60) is not None
    second = node.claim_job(START + 60, owner="b")
    measured = MeasuredGain(2.0, "two"), MeasuredGain(3.0, "three")
    with ThreadPoolExecutor(2) as threads:
        kept = list(
            threads.map(lambda claim, gain: claim.keep_gain(gain), (first, second), measured)
        )
    found = [MeasuredGain(job.measured_gain or 0.0, job.gain_basis) for job in kept]
    assert found[0] == found[1]
    assert found[0] in measured
    again = first.keep_gain(MeasuredGain(5.0, "five"))
    assert (again.measured_gain, again.gain_basis) == (found[0].gain, found[0].basis)
    assert first_gain(node.ledger, second.job) == found[0]


def test_other_work_has_a_gain_of_its_own(node: NodeFixture) -> None:
    node.job(target_noise_hu=10.0)
    assert node.claim_job().keep_gain(MeasuredGain(2.0, "")).measured_gain == 2.0
    node.arrive(b"late", sop_uid="1.2.2", now=START + 50)
    (series,) = node.complete(START + 60)
    other = WorkOrder("identity", 1.0, ("pacs",), target_noise_hu=12.0)
    job = enqueue(node.ledger, series, other, now=START + 60)
    assert job is not None
    assert (job.since_generation, first_gain(node.ledger, job)) == (0, None)
    node.job(series_uid="1.3", target_noise_hu=10.0, now=START + 70)
    claims = [node.claim_job(START + 70, owner=owner) for owner in "cd"]
    assert [first_gain(node.ledger, claim.job) for claim in claims] == [None, None]


def test_a_job_keeps_that_its_gain_is_auto(node: NodeFixture) -> None:
    """Another job of the same series takes its gain, and one that wants the default has none."""
    ordered = node.job(dose_gain=AUTO)
    claim = node.claim_job()
    assert (ordered.dose_gain, claim.job.dose_gain, claim.job.measures) == (AUTO, AUTO, True)
    claim.keep_gain(MeasuredGain(2.5, "as seen"))
    claim.fail("no")
    node.arrive(b"late", sop_uid="1.2.2", now=START + 50)
    (series,) = node.complete(START + 60)
    for gain, known in ((AUTO, MeasuredGain(2.5, "as seen")), (None, None), (2.5, None)):
        order = WorkOrder("identity", 1.0, ("pacs",), dose_gain=gain)
        assert first_gain(node.ledger, replace(claim.job, dose_gain=gain)) == known
        assert len(uncovered_names(node.ledger, series, order)) == 2


def test_a_gain_is_kept_by_the_owner_alone(node: NodeFixture) -> None:
    node.job(target_noise_hu=10.0)
    claim = node.claim_job()
    with pytest.raises(LeaseLost):
        replace(claim, owner="another").keep_gain(MeasuredGain(2.0, ""))
    assert first_gain(node.ledger, claim.job) is None

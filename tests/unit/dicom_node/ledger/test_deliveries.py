"""Deliveries: leased one by one, and the state of their job follows from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from support.ledger_factory import START, NodeFixture, at, later

from dicom_node.errors import PeerError
from dicom_node.ledger.claim import LeaseLost
from dicom_node.ledger.deliveries import (
    DeliveryClaim,
    Sent,
    claim_delivery,
)
from dicom_node.ledger.model import Delivery, Job
from dicom_node.ledger.operations import (
    cancel,
    get_job,
    release_lost_leases,
    retry,
    status,
)
from dicom_node.ledger.pauses import pause, resume
from dicom_node.ledger.pending import waiting_destinations
from dicom_node.ledger.states import (
    DELIVERY_TRANSITIONS,
    TRANSITIONS,
    DeliveryState,
    JobState,
    WrongState,
)
from dicom_node.work_order import Priority

BOTH = ("pacs", "archive")
IMAGES = {"1.dcm": Sent("1.9.1", 0), "2.dcm": Sent("1.9.2", 0xB000)}


def ready(node: NodeFixture, destinations: Sequence[str] = ("pacs",), **options: object) -> Job:
    node.job(destinations=destinations, **options)  # type: ignore[arg-type]
    return node.claim_job(off_peak=True).derived(2)


def take(node: NodeFixture, destination: str = "pacs", now: float = START) -> DeliveryClaim:
    return node.claim_delivery(destination, now)


def finish(claim: DeliveryClaim) -> Delivery:
    assert claim.note_sent(IMAGES)
    return claim.confirm()


def state(node: NodeFixture, job: Job) -> JobState:
    return get_job(node.ledger, job.id).state


def test_every_state_is_in_the_tables_and_what_is_derived_is_never_denoised() -> None:
    assert set(DELIVERY_TRANSITIONS) == set(DeliveryState)
    after_derived = {JobState.DERIVED, JobState.SENDING, JobState.DONE}
    assert not {after for before in after_derived for after in TRANSITIONS[before]} & {
        JobState.QUEUED,
        JobState.DENOISING,
    }


def test_images_are_noted_one_by_one_and_all_make_it_confirmed(node: NodeFixture) -> None:
    job = ready(node)
    claim = take(node)
    delivery = claim.delivery
    assert (delivery.derived_count, delivery.attempts, state(node, job)) == (
        2,
        1,
        JobState.SENDING,
    )
    first = {"1.dcm": IMAGES["1.dcm"]}
    assert not claim.note_sent(first)
    assert claim.sent_names() == {"1.dcm"}
    with pytest.raises(WrongState, match="pacs does not have every image of job 1"):
        claim.confirm()
    done = finish(claim)
    assert (done.state, done.confirmed, done.owner) == (DeliveryState.CONFIRMED, 2, None)
    assert state(node, job) == JobState.DONE


def test_one_destination_holds_up_no_other(node: NodeFixture) -> None:
    job = ready(node, BOTH)
    pacs, archive = take(node), take(node, "archive")
    pacs.retry_later("away", delay_seconds=30)
    assert state(node, job) == JobState.SENDING
    finish(archive)
    waiting = get_job(node.ledger, job.id)
    assert (waiting.state, waiting.reason, waiting.next_at) == (
        JobState.RETRY_WAIT,
        "away",
        START + 30,
    )
    assert claim_delivery(node.ledger, "pacs", owner="s", clock=at(START + 29)) is None
    finish(take(node, now=START + 30))
    assert state(node, job) == JobState.DONE


def test_a_refused_destination_fails_the_job_when_nothing_else_is_open(node: NodeFixture) -> None:
    job = ready(node, BOTH)
    take(node).fail("no CT here")
    assert state(node, job) == JobState.DERIVED
    finish(take(node, "archive"))
    failed = get_job(node.ledger, job.id)
    assert (failed.state, failed.reason) == (JobState.FAILED, "no CT here")
    retry(node.ledger, job.id, now=START + 1)
    assert claim_delivery(node.ledger, "archive", owner="s", clock=at(START + 1)) is None
    again = take(node, now=START + 1)
    assert again.delivery.attempts == 1
    finish(again)
    assert state(node, job) == JobState.DONE


def test_a_refused_destination_is_retried_while_another_is_being_sent(node: NodeFixture) -> None:
    job = ready(node, BOTH)
    take(node, "archive")
    pacs = take(node)
    with pytest.raises(WrongState, match="under way already"):
        retry(node.ledger, job.id, now=START)
    pacs.fail("no CT here")
    assert retry(node.ledger, job.id, now=START).state == JobState.SENDING
    assert take(node).delivery.attempts == 1


@pytest.mark.parametrize(
    "act",
    [
        lambda claim: claim.confirm(),
        lambda claim: claim.note_sent({}),
        lambda claim: claim.fail(""),
        lambda claim: claim.give_back(),
        lambda claim: claim.results_lost(),
        lambda claim: claim.retry_later("", delay_seconds=0),
        lambda claim: claim.begin_commitment("2.25.1"),
        lambda claim: claim.await_commitment("2.25.1", wait_seconds=9),
    ],
)
def test_only_the_owner_moves_a_delivery(
    node: NodeFixture, act: Callable[[DeliveryClaim], object]
) -> None:
    job = ready(node)
    claim = take(node)
    before = get_job(node.ledger, job.id)
    with pytest.raises(LeaseLost, match="The delivery of job 1 to pacs no longer belongs"):
        act(replace(claim, owner="other"))
    assert get_job(node.ledger, job.id) == before


def test_a_delivery_given_back_has_lost_no_attempt(node: NodeFixture) -> None:
    job = ready(node)
    back = take(node).give_back()
    assert (back.state, back.attempts, state(node, job)) == (
        DeliveryState.PENDING,
        0,
        JobState.DERIVED,
    )


def test_a_heartbeat_keeps_the_lease_and_silence_loses_it(node: NodeFixture) -> None:
    ready(node)
    claim = take(node)
    assert later(claim, START + 50).beat()
    assert release_lost_leases(node.ledger, now=START + 100, attempts=3) == []
    (job,) = release_lost_leases(node.ledger, now=START + 111, attempts=3)
    assert job.deliveries[0].state == DeliveryState.PENDING
    assert job.deliveries[0].reason.startswith("its lease ran out")
    assert not later(claim, START + 112).beat()


def test_a_delivery_that_kills_its_sender_again_and_again_is_refused(node: NodeFixture) -> None:
    ready(node)
    for attempt in range(3):
        now = START + 1000 * attempt
        take(node, now=now)
        (job,) = release_lost_leases(node.ledger, now=now + 999, attempts=3)
    assert (job.state, job.deliveries[0].state) == (JobState.FAILED, DeliveryState.REFUSED)


def test_only_unforeseen_faults_spend_attempts(node: NodeFixture) -> None:
    ready(node)
    rules = node.settings.retry
    away, fault = PeerError("away.", transient=True), RuntimeError("a fault")
    now, pauses = START, []
    for error in (away, away, away, away, fault, fault, fault):
        settled = take(node, now=now).settle(error, rules)
        pauses.append(settled.next_at - now)
        now = settled.next_at
    assert pauses[:6] == [30, 60, 100, 100, 100, 100]
    assert (settled.state, settled.attempts, settled.waits) == (DeliveryState.REFUSED, 3, 4)


def test_cancelling_ends_the_lease_and_nothing_more_is_sent(node: NodeFixture) -> None:
    job = ready(node, BOTH)
    claim = take(node)
    cancel(node.ledger, job.id, now=START)
    assert not claim.beat()
    assert claim_delivery(node.ledger, "archive", owner="s", clock=at(START)) is None
    assert waiting_destinations(node.ledger) == []
    assert retry(node.ledger, job.id, now=START).state == JobState.DERIVED
    assert waiting_destinations(node.ledger) == ["archive", "pacs"]


def test_lost_results_stop_every_delivery_and_are_made_anew(node: NodeFixture) -> None:
    job = ready(node, BOTH)
    pacs, archive = take(node), take(node, "archive")
    finish(archive)
    failed = pacs.results_lost()
    assert (failed.state, failed.derived_count) == (JobState.FAILED, 0)
    assert not pacs.beat()
    assert retry(node.ledger, job.id, now=START).state == JobState.QUEUED
    node.claim_job().derived(2)
    finish(take(node))
    assert state(node, job) == JobState.DONE


@pytest.mark.parametrize(("stage", "held"), [("send", BOTH), ("send:pacs", ("pacs",))])
def test_nothing_is_sent_to_a_paused_destination(
    node: NodeFixture, stage: str, held: Sequence[str]
) -> None:
    ready(node, BOTH)
    pause(node.ledger, stage, reason="upgrade", now=START)
    taken = [name for name in BOTH if claim_delivery(node.ledger, name, owner="s", clock=at(START))]
    assert taken == [name for name in BOTH if name not in held]
    resume(node.ledger, stage)
    assert take(node).delivery.destination == "pacs"


def test_urgent_results_are_sent_first(node: NodeFixture) -> None:
    ready(node, series_uid="1.2")
    urgent = ready(node, series_uid="1.3", priority=Priority.URGENT)
    assert take(node).delivery.job_id == urgent.id


def test_deliveries_are_counted_by_destination(node: NodeFixture) -> None:
    ready(node, BOTH)
    take(node)
    cancel(node.ledger, ready(node, series_uid="1.3").id, now=START)
    assert status(node.ledger).deliveries == {
        "archive": {DeliveryState.PENDING: 1},
        "pacs": {DeliveryState.SENDING: 1},
    }


def test_a_clock_that_was_set_back_holds_nothing_up(node: NodeFixture) -> None:
    ready(node)
    late = START + 10_000
    take(node, now=late).retry_later("", delay_seconds=30)
    assert claim_delivery(node.ledger, "pacs", owner="s", clock=at(START)) is not None

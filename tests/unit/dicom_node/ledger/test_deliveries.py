"""Deliveries: leased one by one, and the state of their job follows from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from support.ledger_factory import START, NodeFixture

from dicom_node.errors import PeerError
from dicom_node.ledger.deliveries import (
    Sent,
    beat_delivery,
    claim_delivery,
    confirm,
    give_back_delivery,
    note_sent,
    postpone,
    refuse,
    results_lost,
    sent_names,
    waiting_destinations,
)
from dicom_node.ledger.jobs import URGENT, LeaseLost, claim, derived
from dicom_node.ledger.leases import settle_delivery_fault
from dicom_node.ledger.model import Delivery, Job
from dicom_node.ledger.operations import (
    cancel,
    get_job,
    release_lost_leases,
    retry,
    status,
)
from dicom_node.ledger.pauses import pause, resume
from dicom_node.ledger.states import (
    DELIVERY_TRANSITIONS,
    TRANSITIONS,
    DeliveryState,
    JobState,
    WrongState,
)

BOTH = ("pacs", "archive")
IMAGES = {"1.dcm": Sent("1.9.1", 0), "2.dcm": Sent("1.9.2", 0xB000)}


def ready(node: NodeFixture, destinations: Sequence[str] = ("pacs",), **options: object) -> Job:
    job = node.job(destinations=destinations, **options)  # type: ignore[arg-type]
    claimed = claim(node.ledger, owner="w", off_peak=True, now=START)
    assert claimed is not None
    return derived(node.ledger, job.id, owner="w", count=2, now=START)


def take(node: NodeFixture, destination: str = "pacs", now: float = START) -> Delivery:
    delivery = claim_delivery(node.ledger, destination, owner="s", now=now)
    assert delivery is not None
    return delivery


def finish(node: NodeFixture, delivery: Delivery, now: float = START) -> Delivery:
    assert note_sent(node.ledger, delivery.id, owner="s", sent=IMAGES, now=now)
    return confirm(node.ledger, delivery.id, owner="s", now=now)


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
    delivery = take(node)
    assert (delivery.derived_count, delivery.attempts, state(node, job)) == (
        2,
        1,
        JobState.SENDING,
    )
    first = {"1.dcm": IMAGES["1.dcm"]}
    assert not note_sent(node.ledger, delivery.id, owner="s", sent=first, now=START)
    assert sent_names(node.ledger, delivery.id) == {"1.dcm"}
    with pytest.raises(WrongState, match="pacs does not have every image of job 1"):
        confirm(node.ledger, delivery.id, owner="s", now=START)
    done = finish(node, delivery)
    assert (done.state, done.confirmed, done.owner) == (DeliveryState.CONFIRMED, 2, None)
    assert state(node, job) == JobState.DONE


def test_one_destination_holds_up_no_other(node: NodeFixture) -> None:
    job = ready(node, BOTH)
    pacs, archive = take(node), take(node, "archive")
    postpone(node.ledger, pacs.id, owner="s", reason="away", next_at=START + 30, now=START)
    assert state(node, job) == JobState.SENDING
    finish(node, archive)
    waiting = get_job(node.ledger, job.id)
    assert (waiting.state, waiting.reason, waiting.next_at) == (
        JobState.RETRY_WAIT,
        "away",
        START + 30,
    )
    assert claim_delivery(node.ledger, "pacs", owner="s", now=START + 29) is None
    finish(node, take(node, now=START + 30))
    assert state(node, job) == JobState.DONE


def test_a_refused_destination_fails_the_job_when_nothing_else_is_open(node: NodeFixture) -> None:
    job = ready(node, BOTH)
    refuse(node.ledger, take(node).id, owner="s", reason="no CT here", now=START)
    assert state(node, job) == JobState.DERIVED
    finish(node, take(node, "archive"))
    failed = get_job(node.ledger, job.id)
    assert (failed.state, failed.reason) == (JobState.FAILED, "no CT here")
    retry(node.ledger, job.id, now=START + 1)
    assert claim_delivery(node.ledger, "archive", owner="s", now=START + 1) is None
    again = take(node, now=START + 1)
    assert again.attempts == 1
    finish(node, again)
    assert state(node, job) == JobState.DONE


def test_a_refused_destination_is_retried_while_another_is_being_sent(node: NodeFixture) -> None:
    job = ready(node, BOTH)
    take(node, "archive")
    pacs = take(node)
    with pytest.raises(WrongState, match="under way already"):
        retry(node.ledger, job.id, now=START)
    refuse(node.ledger, pacs.id, owner="s", reason="no CT here", now=START)
    assert retry(node.ledger, job.id, now=START).state == JobState.SENDING
    assert take(node).attempts == 1


@pytest.mark.parametrize(
    "act",
    [
        lambda node, id_: confirm(node.ledger, id_, owner="other", now=START),
        lambda node, id_: note_sent(node.ledger, id_, owner="other", sent={}, now=START),
        lambda node, id_: refuse(node.ledger, id_, owner="other", reason="", now=START),
        lambda node, id_: give_back_delivery(node.ledger, id_, owner="other", now=START),
        lambda node, id_: results_lost(node.ledger, 1, owner="other", now=START),
        lambda node, id_: postpone(
            node.ledger, id_, owner="other", reason="", next_at=START, now=START
        ),
    ],
)
def test_only_the_owner_moves_a_delivery(
    node: NodeFixture, act: Callable[[NodeFixture, int], object]
) -> None:
    job = ready(node)
    delivery = take(node)
    before = get_job(node.ledger, job.id)
    with pytest.raises(LeaseLost):
        act(node, delivery.id)
    assert get_job(node.ledger, job.id) == before


def test_a_delivery_given_back_has_lost_no_attempt(node: NodeFixture) -> None:
    job = ready(node)
    back = give_back_delivery(node.ledger, take(node).id, owner="s", now=START)
    assert (back.state, back.attempts, state(node, job)) == (
        DeliveryState.PENDING,
        0,
        JobState.DERIVED,
    )


def test_a_heartbeat_keeps_the_lease_and_silence_loses_it(node: NodeFixture) -> None:
    ready(node)
    delivery = take(node)
    assert beat_delivery(node.ledger, delivery.id, owner="s", now=START + 50)
    assert release_lost_leases(node.ledger, now=START + 100, attempts=3) == []
    (job,) = release_lost_leases(node.ledger, now=START + 111, attempts=3)
    assert job.deliveries[0].state == DeliveryState.PENDING
    assert not beat_delivery(node.ledger, delivery.id, owner="s", now=START + 112)


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
        settled = settle_delivery_fault(
            node.ledger, take(node, now=now), error, owner="s", retry=rules, now=now
        )
        pauses.append(settled.next_at - now)
        now = settled.next_at
    assert pauses[:6] == [30, 60, 100, 100, 100, 100]
    assert (settled.state, settled.attempts, settled.waits) == (DeliveryState.REFUSED, 3, 4)


def test_cancelling_ends_the_lease_and_nothing_more_is_sent(node: NodeFixture) -> None:
    job = ready(node, BOTH)
    delivery = take(node)
    cancel(node.ledger, job.id, now=START)
    assert not beat_delivery(node.ledger, delivery.id, owner="s", now=START)
    assert claim_delivery(node.ledger, "archive", owner="s", now=START) is None
    assert waiting_destinations(node.ledger) == []
    assert retry(node.ledger, job.id, now=START).state == JobState.DERIVED
    assert waiting_destinations(node.ledger) == ["archive", "pacs"]


def test_lost_results_stop_every_delivery_and_are_made_anew(node: NodeFixture) -> None:
    job = ready(node, BOTH)
    pacs, archive = take(node), take(node, "archive")
    finish(node, archive)
    failed = results_lost(node.ledger, job.id, owner="s", now=START)
    assert (failed.state, failed.derived_count) == (JobState.FAILED, 0)
    assert not beat_delivery(node.ledger, pacs.id, owner="s", now=START)
    assert retry(node.ledger, job.id, now=START).state == JobState.QUEUED
    claim(node.ledger, owner="w", off_peak=False, now=START)
    derived(node.ledger, job.id, owner="w", count=2, now=START)
    finish(node, take(node))
    assert state(node, job) == JobState.DONE


@pytest.mark.parametrize(("stage", "held"), [("send", BOTH), ("send:pacs", ("pacs",))])
def test_nothing_is_sent_to_a_paused_destination(
    node: NodeFixture, stage: str, held: Sequence[str]
) -> None:
    ready(node, BOTH)
    pause(node.ledger, stage, reason="upgrade", now=START)
    taken = [
        name for name in BOTH if claim_delivery(node.ledger, name, owner="s", now=START) is not None
    ]
    assert taken == [name for name in BOTH if name not in held]
    resume(node.ledger, stage)
    assert take(node).destination == "pacs"


def test_urgent_results_are_sent_first(node: NodeFixture) -> None:
    ready(node, series_uid="1.2")
    urgent = ready(node, series_uid="1.3", priority=URGENT)
    assert take(node).job_id == urgent.id


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
    postpone(
        node.ledger, take(node, now=late).id, owner="s", reason="", next_at=late + 30, now=late
    )
    assert claim_delivery(node.ledger, "pacs", owner="s", now=START) is not None

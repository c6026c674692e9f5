"""Storage commitment in the ledger: reports early, late, twice, partial, and requests of peers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.ledger_factory import START, NodeFixture, at, later

from dicom_node.errors import PeerError
from dicom_node.ledger.claim import LeaseLost
from dicom_node.ledger.commitment_requests import (
    MAX_REPORT_ATTEMPTS,
    accept_request,
    claim_report,
    held,
)
from dicom_node.ledger.commitments import overdue, report
from dicom_node.ledger.deliveries import DeliveryClaim, Sent
from dicom_node.ledger.operations import cancel, get_job, retry
from dicom_node.ledger.states import DeliveryState, JobState

IMAGES = {"1.dcm": Sent("1.9.1", 0), "2.dcm": Sent("1.9.2", 0)}
UIDS = ["1.9.1", "1.9.2"]
FAILED = {"1.9.2": 0x0112}
ITEMS = [("1.2.840.10008.5.1.4.1.1.2", "1.2.1"), ("1.2.840.10008.5.1.4.1.1.2", "1.2.7")]


def stored(node: NodeFixture) -> DeliveryClaim:
    """A delivery in the sender's hands whose images have all been stored."""
    node.job()
    node.claim_job().derived(2)
    return send_again(node, START)


def send_again(node: NodeFixture, now: float) -> DeliveryClaim:
    claim = node.claim_delivery(now=now)
    assert claim.note_sent(IMAGES)
    return claim


def ask(claim: DeliveryClaim, uid: str = "2.1") -> None:
    claim.begin_commitment(uid)


def wait(claim: DeliveryClaim, uid: str = "2.1") -> DeliveryState:
    return claim.await_commitment(uid, wait_seconds=300).state


def tell(
    node: NodeFixture, uid: str = "2.1", failed: dict[str, int] | None = None, now: float = START
) -> bool:
    failed = failed or {}
    committed = [item for item in UIDS if item not in failed]
    return report(
        node.ledger,
        uid,
        committed=committed,
        failed=failed,
        now=now,
        retry=node.settings.retry,
    )


def states(node: NodeFixture) -> tuple[JobState, DeliveryState]:
    job = get_job(node.ledger, 1)
    return job.state, job.deliveries[0].state


DONE = (JobState.DONE, DeliveryState.CONFIRMED)


def test_a_job_is_done_when_the_destination_has_committed(node: NodeFixture) -> None:
    delivery = stored(node)
    ask(delivery)
    assert wait(delivery) == DeliveryState.COMMITTING
    assert get_job(node.ledger, 1).state == JobState.SENDING
    assert tell(node)
    assert states(node) == DONE


def test_a_report_may_come_before_the_answer_to_the_request_and_twice(node: NodeFixture) -> None:
    delivery = stored(node)
    ask(delivery)
    assert tell(node)
    assert wait(delivery) == DeliveryState.CONFIRMED
    assert tell(node)
    assert states(node) == DONE


def test_an_unknown_transaction_is_told(node: NodeFixture) -> None:
    stored(node)
    assert not tell(node, "9.9")


def test_what_was_not_committed_is_sent_again_and_asked_for_again(node: NodeFixture) -> None:
    delivery = stored(node)
    ask(delivery)
    wait(delivery)
    assert tell(node, failed=FAILED)
    assert states(node) == (JobState.RETRY_WAIT, DeliveryState.PENDING)
    assert delivery.sent_names() == {"1.dcm"}
    delivery = send_again(node, START + 30)
    assert delivery.uncommitted() == {"2.dcm": "1.9.2"}
    ask(delivery, "2.2")
    wait(delivery, "2.2")
    assert report(node.ledger, "2.2", committed=["1.9.2"], failed={}, now=START + 31)
    assert states(node) == DONE


def test_a_destination_that_never_commits_is_given_up(node: NodeFixture) -> None:
    delivery, now = stored(node), START
    for attempt in range(3):
        uid = f"2.{attempt}"
        ask(later(delivery, now), uid)
        wait(later(delivery, now), uid)
        tell(node, uid, FAILED, now)
        now = get_job(node.ledger, 1).deliveries[0].next_at
        if attempt < 2:
            send_again(node, now)
    assert states(node) == (JobState.FAILED, DeliveryState.REFUSED)
    assert get_job(node.ledger, 1).reason == "pacs did not commit to 1 images (after 3 attempts)"


def test_a_late_report_is_asked_for_again_and_nothing_is_sent_twice(node: NodeFixture) -> None:
    delivery = stored(node)
    ask(delivery)
    wait(delivery)
    assert overdue(node.ledger, now=START + 299) == []
    (late,) = overdue(node.ledger, now=START + 300)
    assert (late.state, late.confirmed) == (DeliveryState.PENDING, 2)
    assert get_job(node.ledger, 1).state == JobState.RETRY_WAIT
    assert tell(node, now=START + 301)
    assert states(node) == DONE


def test_an_old_report_does_not_disturb_a_new_request(node: NodeFixture) -> None:
    delivery = stored(node)
    ask(delivery)
    wait(delivery)
    overdue(node.ledger, now=START + 300)
    again = send_again(node, START + 400)
    ask(again, "2.2")
    wait(again, "2.2")
    tell(node, "2.1", FAILED, START + 401)
    assert states(node) == (JobState.SENDING, DeliveryState.COMMITTING)
    report(node.ledger, "2.2", committed=UIDS, failed={}, now=START + 402)
    assert states(node) == (JobState.RETRY_WAIT, DeliveryState.PENDING)  # one is to be sent again


def test_a_commitment_after_giving_up_still_counts(node: NodeFixture) -> None:
    delivery = stored(node)
    ask(delivery)
    delivery.fail("refused")
    assert get_job(node.ledger, 1).state == JobState.FAILED
    assert tell(node)
    assert states(node) == DONE


def test_a_cancelled_job_stays_cancelled(node: NodeFixture) -> None:
    delivery = stored(node)
    ask(delivery)
    wait(delivery)
    cancel(node.ledger, 1, now=START)
    assert tell(node)
    assert states(node) == (JobState.CANCELLED, DeliveryState.CONFIRMED)
    assert retry(node.ledger, 1, now=START).state == JobState.DONE


def test_only_the_owner_asks(node: NodeFixture) -> None:
    delivery = stored(node)
    with pytest.raises(LeaseLost):
        replace(delivery, owner="other").begin_commitment("2.1")


def test_a_request_of_a_peer_is_answered_once(node: NodeFixture) -> None:
    node.arrive()
    for _ in range(2):
        accept_request(
            node.ledger, transaction_uid="3.1", requester="ORTHANC", items=ITEMS, now=START
        )
    owed = claim_report(node.ledger, owner="s", clock=at(START))
    assert owed is not None
    request = owed.request
    assert (request.requester, request.transaction_uid, list(request.items)) == (
        "ORTHANC",
        "3.1",
        ITEMS,
    )
    assert held(node.ledger, [uid for _, uid in request.items]) == {"1.2.1"}
    assert claim_report(node.ledger, owner="other", clock=at(START)) is None
    with pytest.raises(LeaseLost):
        replace(owed, owner="other").reported()
    owed.retry_later("away", delay_seconds=30)
    assert claim_report(node.ledger, owner="s", clock=at(START + 29)) is None
    again = claim_report(node.ledger, owner="s", clock=at(START + 30))
    assert again is not None
    assert again.request.attempts == 2
    again.reported()
    assert claim_report(node.ledger, owner="s", clock=at(START + 1000)) is None


def test_a_report_whose_sender_died_is_taken_over(node: NodeFixture) -> None:
    accept_request(node.ledger, transaction_uid="3.1", requester="A", items=ITEMS, now=START)
    assert claim_report(node.ledger, owner="dead", clock=at(START))
    assert claim_report(node.ledger, owner="s", clock=at(START + 61))


def test_a_heartbeat_keeps_the_lease_of_a_report(node: NodeFixture) -> None:
    accept_request(node.ledger, transaction_uid="3.1", requester="A", items=ITEMS, now=START)
    owed = claim_report(node.ledger, owner="s", clock=at(START))
    assert owed is not None
    assert later(owed, START + 50).beat()
    assert claim_report(node.ledger, owner="other", clock=at(START + 100)) is None
    assert claim_report(node.ledger, owner="other", clock=at(START + 111))
    assert not later(owed, START + 112).beat()


def test_a_report_that_nobody_takes_is_given_up_after_many_attempts(node: NodeFixture) -> None:
    accept_request(node.ledger, transaction_uid="3.1", requester="A", items=ITEMS, now=START)
    away = PeerError("A is away.", transient=True)
    owed = claim_report(node.ledger, owner="s", clock=at(START))
    assert owed is not None
    owed.settle(away, node.settings.retry)
    again = claim_report(node.ledger, owner="s", clock=at(START + 1e6))
    assert again is not None
    spent = replace(again.request, attempts=MAX_REPORT_ATTEMPTS)
    replace(again, request=spent).settle(away, node.settings.retry)
    assert claim_report(node.ledger, owner="s", clock=at(START + 2e6)) is None

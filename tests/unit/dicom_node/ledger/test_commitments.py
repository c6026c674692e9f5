"""Storage commitment in the ledger: reports early, late, twice, partial, and requests of peers."""

from __future__ import annotations

import pytest
from support.ledger_factory import START, NodeFixture

from dicom_node.ledger.commitment_requests import (
    accept_request,
    claim_report,
    held,
    report_later,
    reported,
)
from dicom_node.ledger.commitments import await_commitment, begin_commitment, overdue, report
from dicom_node.ledger.deliveries import (
    Sent,
    claim_delivery,
    note_sent,
    refuse,
    sent_names,
    uncommitted,
)
from dicom_node.ledger.jobs import LeaseLost, claim, derived
from dicom_node.ledger.model import Delivery
from dicom_node.ledger.operations import cancel, get_job, retry
from dicom_node.ledger.states import DeliveryState, JobState

IMAGES = {"1.dcm": Sent("1.9.1", 0), "2.dcm": Sent("1.9.2", 0)}
UIDS = ["1.9.1", "1.9.2"]
FAILED = {"1.9.2": 0x0112}
ITEMS = [("1.2.840.10008.5.1.4.1.1.2", "1.2.1"), ("1.2.840.10008.5.1.4.1.1.2", "1.2.7")]


def stored(node: NodeFixture) -> Delivery:
    """A delivery in the sender's hands whose images have all been stored."""
    job = node.job()
    claim(node.ledger, owner="w", off_peak=False, now=START)
    derived(node.ledger, job.id, owner="w", count=2, now=START)
    return send_again(node, START)


def send_again(node: NodeFixture, now: float) -> Delivery:
    delivery = claim_delivery(node.ledger, "pacs", owner="s", now=now)
    assert delivery is not None
    assert note_sent(node.ledger, delivery.id, owner="s", sent=IMAGES, now=now)
    return delivery


def ask(node: NodeFixture, delivery: Delivery, uid: str = "2.1", now: float = START) -> None:
    begin_commitment(node.ledger, delivery.id, owner="s", transaction_uid=uid, now=now)


def wait(
    node: NodeFixture, delivery: Delivery, uid: str = "2.1", now: float = START
) -> DeliveryState:
    return await_commitment(
        node.ledger, delivery.id, owner="s", transaction_uid=uid, deadline=now + 300, now=now
    ).state


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
    ask(node, delivery)
    assert wait(node, delivery) == DeliveryState.COMMITTING
    assert get_job(node.ledger, 1).state == JobState.SENDING
    assert tell(node)
    assert states(node) == DONE


def test_a_report_may_come_before_the_answer_to_the_request_and_twice(node: NodeFixture) -> None:
    delivery = stored(node)
    ask(node, delivery)
    assert tell(node)
    assert wait(node, delivery) == DeliveryState.CONFIRMED
    assert tell(node)
    assert states(node) == DONE


def test_an_unknown_transaction_is_told(node: NodeFixture) -> None:
    stored(node)
    assert not tell(node, "9.9")


def test_what_was_not_committed_is_sent_again_and_asked_for_again(node: NodeFixture) -> None:
    delivery = stored(node)
    ask(node, delivery)
    wait(node, delivery)
    assert tell(node, failed=FAILED)
    assert states(node) == (JobState.RETRY_WAIT, DeliveryState.PENDING)
    assert sent_names(node.ledger, delivery.id) == {"1.dcm"}
    send_again(node, START + 30)
    assert uncommitted(node.ledger, delivery.id) == {"2.dcm": "1.9.2"}
    ask(node, delivery, "2.2", START + 30)
    wait(node, delivery, "2.2", START + 30)
    assert report(node.ledger, "2.2", committed=["1.9.2"], failed={}, now=START + 31)
    assert states(node) == DONE


def test_a_destination_that_never_commits_is_given_up(node: NodeFixture) -> None:
    delivery, now = stored(node), START
    for attempt in range(3):
        uid = f"2.{attempt}"
        ask(node, delivery, uid, now)
        wait(node, delivery, uid, now)
        tell(node, uid, FAILED, now)
        now = get_job(node.ledger, 1).deliveries[0].next_at
        if attempt < 2:
            send_again(node, now)
    assert states(node) == (JobState.FAILED, DeliveryState.REFUSED)
    assert get_job(node.ledger, 1).reason == "pacs did not commit to 1 images (after 3 attempts)"


def test_a_late_report_is_asked_for_again_and_nothing_is_sent_twice(node: NodeFixture) -> None:
    delivery = stored(node)
    ask(node, delivery)
    wait(node, delivery)
    assert overdue(node.ledger, now=START + 299) == []
    (late,) = overdue(node.ledger, now=START + 300)
    assert (late.state, late.confirmed) == (DeliveryState.PENDING, 2)
    assert get_job(node.ledger, 1).state == JobState.RETRY_WAIT
    assert tell(node, now=START + 301)
    assert states(node) == DONE


def test_an_old_report_does_not_disturb_a_new_request(node: NodeFixture) -> None:
    delivery = stored(node)
    ask(node, delivery)
    wait(node, delivery)
    overdue(node.ledger, now=START + 300)
    later = send_again(node, START + 400)
    ask(node, later, "2.2", START + 400)
    wait(node, later, "2.2", START + 400)
    tell(node, "2.1", FAILED, START + 401)
    assert states(node) == (JobState.SENDING, DeliveryState.COMMITTING)
    report(node.ledger, "2.2", committed=UIDS, failed={}, now=START + 402)
    assert states(node) == (JobState.RETRY_WAIT, DeliveryState.PENDING)  # one is to be sent again


def test_a_commitment_after_giving_up_still_counts(node: NodeFixture) -> None:
    delivery = stored(node)
    ask(node, delivery)
    refuse(node.ledger, delivery.id, owner="s", reason="refused", now=START)
    assert get_job(node.ledger, 1).state == JobState.FAILED
    assert tell(node)
    assert states(node) == DONE


def test_a_cancelled_job_stays_cancelled(node: NodeFixture) -> None:
    delivery = stored(node)
    ask(node, delivery)
    wait(node, delivery)
    cancel(node.ledger, 1, now=START)
    assert tell(node)
    assert states(node) == (JobState.CANCELLED, DeliveryState.CONFIRMED)
    assert retry(node.ledger, 1, now=START).state == JobState.DONE


def test_only_the_owner_asks(node: NodeFixture) -> None:
    delivery = stored(node)
    with pytest.raises(LeaseLost):
        begin_commitment(node.ledger, delivery.id, owner="other", transaction_uid="2.1", now=START)


def test_a_request_of_a_peer_is_answered_once(node: NodeFixture) -> None:
    node.arrive()
    for _ in range(2):
        accept_request(
            node.ledger, transaction_uid="3.1", requester="ORTHANC", items=ITEMS, now=START
        )
    owed = claim_report(node.ledger, owner="s", now=START)
    assert owed is not None
    assert (owed.requester, owed.transaction_uid, list(owed.items)) == ("ORTHANC", "3.1", ITEMS)
    assert held(node.ledger, [uid for _, uid in owed.items]) == {"1.2.1"}
    assert claim_report(node.ledger, owner="other", now=START) is None
    with pytest.raises(LeaseLost):
        reported(node.ledger, owed.id, owner="other", now=START)
    report_later(node.ledger, owed.id, owner="s", next_at=START + 30)
    assert claim_report(node.ledger, owner="s", now=START + 29) is None
    again = claim_report(node.ledger, owner="s", now=START + 30)
    assert again is not None
    assert again.attempts == 2
    reported(node.ledger, again.id, owner="s", now=START + 31)
    assert claim_report(node.ledger, owner="s", now=START + 1000) is None


def test_a_report_whose_sender_died_is_taken_over(node: NodeFixture) -> None:
    accept_request(node.ledger, transaction_uid="3.1", requester="A", items=ITEMS, now=START)
    assert claim_report(node.ledger, owner="dead", now=START)
    assert claim_report(node.ledger, owner="s", now=START + 61)

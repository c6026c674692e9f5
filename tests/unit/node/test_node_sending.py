"""The sender: every destination gets every image once, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from ledger_factory import START, NodeFixture

from dicom_node import sending
from dicom_node.errors import PeerError
from dicom_node.ledger.jobs import claim, derived
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import cancel, get_job, retry, wake_waiting
from dicom_node.ledger.states import DeliveryState, JobState
from dicom_node.sending import Sender
from dicom_node.settings import PeerSettings


@dataclass(frozen=True)
class Result:
    path: Path
    status: int | None

    @property
    def ok(self) -> bool:
        return self.status == 0

    @property
    def transient(self) -> bool:
        return self.status in (None, 0xA700)

    @property
    def sentence(self) -> str:
        return f"status {self.status}"


class Pacs:
    """Answers with the status planned for a peer and file, success when there is no plan."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str]] = []
        self.plan: dict[tuple[str, str], list[int | None]] = {}
        self.away: set[str] = set()
        self.on_call: Callable[[], object] = lambda: None

    def __call__(
        self, peer: PeerSettings, files: Sequence[Path], *, calling_ae: str
    ) -> list[Result]:
        assert calling_ae == "DENOISE"
        self.on_call()
        if peer.name in self.away:
            raise PeerError(f"{peer.name} is away.", transient=True)
        return [self._take(peer.name, path) for path in files]

    def _take(self, peer: str, path: Path) -> Result:
        planned = self.plan.get((peer, path.name))
        status = planned.pop(0) if planned else 0
        if status == 0:
            self.received.append((peer, path.name))
        return Result(path, status)


@pytest.fixture
def pacs() -> Pacs:
    return Pacs()


def ready(node: NodeFixture, destinations: Sequence[str] = ("pacs",), images: int = 3) -> Job:
    job = node.job(destinations=destinations)
    claim(node.ledger, owner="w", off_peak=False, now=START)
    staging = node.outbox.stage(job.token)
    for number in range(1, images + 1):
        (staging / f"{number}.dcm").write_bytes(b"derived")
    node.outbox.commit(job.token, staging)
    return derived(node.ledger, job.id, owner="w", count=images, now=START)


def send(
    node: NodeFixture, pacs: Pacs, now: float = START, stop: Callable[[], bool] = lambda: False
) -> bool:
    wake_waiting(node.ledger, now=now)
    sender = Sender(node.ledger, node.outbox, pacs, node.settings, owner="s", clock=lambda: now)
    return sender.send_once(stop)


def test_every_destination_gets_every_image(node: NodeFixture, pacs: Pacs) -> None:
    job = ready(node, ["pacs", "archive"])
    assert send(node, pacs)
    assert get_job(node.ledger, job.id).state == JobState.DONE
    assert sorted(pacs.received) == [
        (p, f"{n}.dcm") for p in ("archive", "pacs") for n in (1, 2, 3)
    ]
    assert not send(node, pacs)


def test_only_what_is_missing_is_sent_again(node: NodeFixture, pacs: Pacs) -> None:
    job = ready(node)
    pacs.plan = {("pacs", "2.dcm"): [0xA700], ("pacs", "3.dcm"): [None]}
    send(node, pacs)
    waiting = get_job(node.ledger, job.id)
    assert (waiting.state, waiting.next_at) == (JobState.RETRY_WAIT, START + 30)
    assert waiting.reason == "pacs: 2 of 3 images not stored, status 42752."
    assert waiting.deliveries[0].confirmed == 1
    assert not send(node, pacs, START + 29)
    assert send(node, pacs, START + 30)
    assert get_job(node.ledger, job.id).state == JobState.DONE
    assert sorted(pacs.received) == [("pacs", f"{n}.dcm") for n in (1, 2, 3)]


def test_a_destination_that_is_away_holds_up_no_other(node: NodeFixture, pacs: Pacs) -> None:
    job = ready(node, ["pacs", "archive"])
    pacs.away = {"pacs"}
    send(node, pacs)
    states = [item.state for item in get_job(node.ledger, job.id).deliveries]
    assert states == [DeliveryState.PENDING, DeliveryState.CONFIRMED]
    pacs.away = set()
    send(node, pacs, START + 30)
    assert get_job(node.ledger, job.id).state == JobState.DONE
    assert len(pacs.received) == len(set(pacs.received)) == 6


def test_a_destination_may_be_away_for_a_weekend(node: NodeFixture, pacs: Pacs) -> None:
    job = ready(node)
    pacs.away = {"pacs"}
    now = START
    for _ in range(20):
        assert send(node, pacs, now)
        waiting = get_job(node.ledger, job.id)
        assert (waiting.state, waiting.reason) == (JobState.RETRY_WAIT, "pacs is away.")
        now = waiting.next_at
    pacs.away = set()
    send(node, pacs, now)
    assert get_job(node.ledger, job.id).state == JobState.DONE


def test_a_lasting_refusal_is_parked_when_the_others_have_all(
    node: NodeFixture, pacs: Pacs
) -> None:
    job = ready(node, ["pacs", "archive"])
    pacs.plan = {("pacs", "2.dcm"): [0xC000]}
    pacs.away = {"archive"}
    send(node, pacs)
    waiting = get_job(node.ledger, job.id)
    assert (waiting.state, waiting.deliveries[0].state) == (
        JobState.RETRY_WAIT,
        DeliveryState.REFUSED,
    )
    pacs.away = set()
    send(node, pacs, START + 30)
    failed = get_job(node.ledger, job.id)
    assert (failed.state, failed.reason) == (
        JobState.FAILED,
        "pacs: 1 of 3 images not stored, status 49152.",
    )
    retry(node.ledger, job.id, now=START + 40)
    send(node, pacs, START + 40)
    assert get_job(node.ledger, job.id).state == JobState.DONE


def test_stopping_keeps_what_was_confirmed(
    node: NodeFixture, pacs: Pacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "FILES_PER_CALL", 2)
    job = ready(node)
    send(node, pacs, stop=lambda: len(pacs.received) == 2)
    back = get_job(node.ledger, job.id)
    assert (back.state, back.attempts, back.deliveries[0].confirmed) == (JobState.DERIVED, 0, 2)
    send(node, pacs)
    assert pacs.received == [("pacs", "1.dcm"), ("pacs", "2.dcm"), ("pacs", "3.dcm")]


def test_a_cancelled_job_is_left_alone(node: NodeFixture, pacs: Pacs) -> None:
    job = ready(node)
    pacs.on_call = lambda: cancel(node.ledger, job.id, now=START)
    send(node, pacs)
    assert get_job(node.ledger, job.id).state == JobState.CANCELLED


def test_a_result_that_is_gone_is_told_and_made_anew_on_demand(
    node: NodeFixture, pacs: Pacs
) -> None:
    job = ready(node)
    node.outbox.remove(job.token)
    send(node, pacs)
    failed = get_job(node.ledger, job.id)
    assert failed.state == JobState.FAILED
    assert f"`dicom-node jobs retry {job.id}` makes them anew" in failed.reason
    assert retry(node.ledger, job.id, now=START).state == JobState.QUEUED


def test_a_destination_that_left_the_configuration_is_told(node: NodeFixture, pacs: Pacs) -> None:
    job = ready(node, ["gone"])
    send(node, pacs)
    failed = get_job(node.ledger, job.id)
    assert failed.state == JobState.FAILED
    assert "'gone' is not in the configuration" in failed.reason


def test_an_unforeseen_fault_waits(node: NodeFixture, pacs: Pacs) -> None:
    job = ready(node)

    def fault() -> None:
        raise RuntimeError("CANARY")

    pacs.on_call = fault
    send(node, pacs)
    waiting = get_job(node.ledger, job.id)
    assert waiting.state == JobState.RETRY_WAIT
    assert "CANARY" not in waiting.reason

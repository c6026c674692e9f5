"""The sender: every destination gets every image once, whatever happens on the way."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.ledger_factory import START, NodeFixture, at
from support.peers import wait_until

from dicom_node.errors import PeerError
from dicom_node.ledger.commitment_requests import accept_request, claim_report
from dicom_node.ledger.commitments import overdue, report
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import cancel, get_job, retry, status, unnotified
from dicom_node.ledger.states import DeliveryState, JobState
from dicom_node.sending import Sender, courier
from dicom_node.sending.courier import MAX_ABSENCE_SECONDS, SendingContext
from dicom_node.sending.ports import Report
from dicom_node.sending.reporter import Reporter
from dicom_node.settings import PeerSettings, WebPeerSettings

NO_SUCH_INSTANCE = 0x0112


@dataclass(frozen=True)
class Result:
    path: Path
    status: int | None

    @property
    def sop_instance_uid(self) -> str:
        return f"1.2.3.{self.path.stem}"

    @property
    def ok(self) -> bool:
        return self.status == 0

    @property
    def transient(self) -> bool:
        return self.status in (None, 0xA700)

    @property
    def away(self) -> bool:
        return self.status == 0xA700

    @property
    def sentence(self) -> str:
        return f"status {self.status}"


@dataclass(frozen=True)
class Told:
    """What a peer reports."""

    transaction_uid: str
    committed: Collection[str] = ()
    failed: Mapping[str, int] = field(default_factory=dict)


class Network:
    """Peers that answer with the status planned for peer and file, success when there is no plan.

    ``committing`` is called with the request for storage commitment, and returns the report that
    comes at once, or None.
    """

    def __init__(self) -> None:
        self.received: list[tuple[str, str]] = []
        self.plan: dict[tuple[str, str], list[int | None]] = {}
        self.away: set[str] = set()
        self.calls: list[str] = []
        self.requests: list[tuple[str, list[str]]] = []
        self.reports: list[tuple[str, str, set[str]]] = []
        self.committing: Callable[[str, list[str]], Told | None] = lambda *_: None
        self.on_call: Callable[[str], object] = lambda _: None

    @contextlib.contextmanager
    def open(
        self, peer: PeerSettings | WebPeerSettings, files: Sequence[Path]
    ) -> Iterator[Session]:
        yield Session(self, peer.name, files)

    def open_committing(
        self, peer: PeerSettings, files: Sequence[Path]
    ) -> contextlib.AbstractContextManager[Session]:
        return self.open(peer, files)

    def report(
        self,
        peer: PeerSettings,
        transaction_uid: str,
        items: Sequence[tuple[str, str]],
        held: Collection[str],
    ) -> None:
        self.call(peer.name)
        self.reports.append((peer.name, transaction_uid, set(held)))

    def call(self, peer: str) -> None:
        self.calls.append(peer)
        self.on_call(peer)
        if peer in self.away:
            raise PeerError(f"{peer} is away.", transient=True)

    def take(self, peer: str, path: Path) -> Result:
        planned = self.plan.get((peer, path.name))
        status = planned.pop(0) if planned else 0
        if status == 0:
            self.received.append((peer, path.name))
        return Result(path, status)


@dataclass(frozen=True)
class Session:
    network: Network
    peer: str
    files: Sequence[Path]

    def send(self, should_stop: Callable[[], bool]) -> Iterator[Result]:
        if self.files:
            self.network.call(self.peer)
        for path in self.files:
            if should_stop():
                return
            yield self.network.take(self.peer, path)

    def ask_commitment(
        self,
        transaction_uid: str,
        files: Sequence[Path],
        *,
        on_report: Callable[[Report], int],
        wait_seconds: float,
    ) -> None:
        self.network.call(self.peer)
        uids = [f"1.2.3.{path.stem}" for path in files]
        self.network.requests.append((transaction_uid, uids))
        told = self.network.committing(transaction_uid, uids)
        if told is not None:
            assert on_report(told) == 0


@pytest.fixture
def network() -> Network:
    return Network()


def ready(node: NodeFixture, destinations: Sequence[str] = ("pacs",), images: int = 3) -> Job:
    job = node.job(destinations=destinations)
    claim = node.claim_job()
    staging = node.outbox.stage(job.token)
    for number in range(1, images + 1):
        (staging / f"{number}.dcm").write_bytes(b"derived")
    node.outbox.commit(job.token, staging)
    return claim.derived(images)


class Office:
    """A sender whose clock the test moves."""

    def __init__(self, node: NodeFixture, network: Network) -> None:
        self.now = START
        self.node = node
        self.context = SendingContext(
            node.ledger, node.outbox, network, node.settings, "s", clock=lambda: self.now
        )
        self.sender = Sender(self.context)

    def send(self, now: float = START, stop: Callable[[], bool] = lambda: False) -> bool:
        self.now = now
        return self.sender.send_once(stop)


@pytest.fixture
def office(node: NodeFixture, network: Network) -> Office:
    return Office(node, network)


def test_every_destination_gets_every_image(
    node: NodeFixture, office: Office, network: Network
) -> None:
    job = ready(node, ["pacs", "archive"])
    assert office.send()
    assert get_job(node.ledger, job.id).state == JobState.DONE
    assert sorted(network.received) == [
        (p, f"{n}.dcm") for p in ("archive", "pacs") for n in (1, 2, 3)
    ]
    assert not office.send()


def test_only_what_is_missing_is_sent_again(
    node: NodeFixture, office: Office, network: Network
) -> None:
    job = ready(node)
    network.plan = {("pacs", "2.dcm"): [0xA700], ("pacs", "3.dcm"): [None]}
    office.send()
    waiting = get_job(node.ledger, job.id)
    assert (waiting.state, waiting.next_at) == (JobState.RETRY_WAIT, START + 30)
    assert waiting.reason == "pacs: 2 of 3 images not stored, status 42752."
    assert waiting.deliveries[0].confirmed == 1
    assert not office.send(START + 29)
    assert office.send(START + 30)
    assert get_job(node.ledger, job.id).state == JobState.DONE
    assert sorted(network.received) == [("pacs", f"{n}.dcm") for n in (1, 2, 3)]


def test_a_destination_that_is_away_holds_up_no_other(
    node: NodeFixture, office: Office, network: Network
) -> None:
    job = ready(node, ["pacs", "archive"])
    network.away = {"pacs"}
    office.send()
    states = [item.state for item in get_job(node.ledger, job.id).deliveries]
    assert states == [DeliveryState.PENDING, DeliveryState.CONFIRMED]
    network.away = set()
    office.send(START + 30)
    assert get_job(node.ledger, job.id).state == JobState.DONE
    assert len(network.received) == len(set(network.received)) == 6


def test_a_destination_may_be_away_for_a_weekend(
    node: NodeFixture, office: Office, network: Network
) -> None:
    job = ready(node)
    network.away = {"pacs"}
    for half_hours in range(0, 2 * 64, 8):
        office.send(START + 1800 * half_hours)
    waiting = get_job(node.ledger, job.id)
    assert (waiting.state, waiting.reason) == (JobState.RETRY_WAIT, "pacs is away.")
    network.away = set()
    office.send(START + 64 * 3600 + MAX_ABSENCE_SECONDS)
    assert get_job(node.ledger, job.id).state == JobState.DONE


def test_a_destination_that_is_away_is_asked_for_one_delivery_only(
    node: NodeFixture, office: Office, network: Network
) -> None:
    for number in range(3):
        job = node.job(series_uid=f"1.2.{number}")
        claim = node.claim_job()
        staging = node.outbox.stage(job.token)
        (staging / "1.dcm").write_bytes(b"derived")
        node.outbox.commit(job.token, staging)
        claim.derived(1)
    network.away = {"pacs"}
    for _ in range(3):
        office.send(START)
    assert network.calls == ["pacs"]
    network.away = set()
    for _ in range(3):
        assert office.send(START + 30)
    assert len(network.received) == 3


def test_a_destination_is_away_for_the_next_delivery_even_when_this_one_was_lost(
    node: NodeFixture, office: Office, network: Network
) -> None:
    first, _ = ready(node), ready_second(node)
    network.away = {"pacs"}
    network.on_call = lambda _: cancel(node.ledger, first.id, now=START)
    office.send()
    network.on_call = lambda _: None
    assert not office.send(START + 1)
    assert network.calls == ["pacs"]


def test_a_retry_does_not_wait_for_the_destinations_pause(
    node: NodeFixture, office: Office, network: Network
) -> None:
    first, second = ready(node), ready_second(node)
    network.away = {"pacs"}
    for tries in range(4):
        office.send(START + 3600 * tries)
    pausing = START + 3600 * 3 + 1
    assert not office.send(pausing)
    retry(node.ledger, second.id, now=pausing)
    calls = len(network.calls)
    assert office.send(pausing)
    assert len(network.calls) == calls + 1
    assert not office.send(pausing)  # it was away: the pause goes on for everybody
    network.away = set()
    retry(node.ledger, second.id, now=pausing)
    assert office.send(pausing)
    assert get_job(node.ledger, second.id).state == JobState.DONE
    assert get_job(node.ledger, first.id).state == JobState.RETRY_WAIT


def test_an_untried_job_is_sent_at_once_when_its_destination_is_back(
    node: NodeFixture, office: Office, network: Network
) -> None:
    ready(node)
    network.away = {"pacs"}
    office.send(START)
    second = ready_second(node)
    assert not office.send(START + 1)
    network.away = set()
    retry(node.ledger, second.id, now=START + 1)
    assert office.send(START + 1)
    assert get_job(node.ledger, second.id).state == JobState.DONE


def ready_second(node: NodeFixture) -> Job:
    """One more job, of another series."""
    job = node.job(series_uid="1.2.2")
    claim = node.claim_job()
    staging = node.outbox.stage(job.token)
    (staging / "9.dcm").write_bytes(b"derived")
    node.outbox.commit(job.token, staging)
    return claim.derived(1)


def test_pending_images_of_a_failed_job_are_not_due(node: NodeFixture, office: Office) -> None:
    job = ready(node, ["pacs", "archive"])
    node.outbox.remove(job.token)
    office.send()
    assert get_job(node.ledger, job.id).state == JobState.FAILED
    assert status(node.ledger).deliveries == {}
    retry(node.ledger, job.id, now=START)
    assert status(node.ledger).deliveries == {
        name: {DeliveryState.PENDING: 1} for name in ("archive", "pacs")
    }


def test_a_clock_set_back_makes_no_destination_wait(
    node: NodeFixture, office: Office, network: Network
) -> None:
    ready(node)
    network.away = {"pacs"}
    office.send(START + 100_000)
    network.away = set()
    office.send(START)
    assert len(network.received) == 3


def test_a_lasting_refusal_is_parked_at_once(
    node: NodeFixture, office: Office, network: Network
) -> None:
    job = ready(node, ["pacs", "archive"])
    network.plan = {("pacs", "2.dcm"): [0xC000]}
    network.away = {"archive"}
    office.send()
    waiting = get_job(node.ledger, job.id)
    assert (waiting.state, waiting.deliveries[0].state) == (
        JobState.RETRY_WAIT,
        DeliveryState.REFUSED,
    )
    network.away = set()
    office.send(START + 30)
    failed = get_job(node.ledger, job.id)
    assert (failed.state, failed.reason) == (
        JobState.FAILED,
        "pacs: 1 of 3 images not stored, status 49152.",
    )
    retry(node.ledger, job.id, now=START + 40)
    office.send(START + 40)
    assert get_job(node.ledger, job.id).state == JobState.DONE
    assert len(network.received) == len(set(network.received)) == 6


def test_a_peer_that_is_there_and_breaks_off_uses_up_attempts(
    node: NodeFixture, office: Office, network: Network
) -> None:
    """No answer from a reachable peer: reported after a while, not awaited without limit."""
    job = ready(node)
    network.plan = {("pacs", f"{n}.dcm"): [None] * 99 for n in (1, 2, 3)}
    attempts = node.settings.retry.attempts
    for attempt in range(1, attempts + 1):
        assert office.send(START + 10_000 * attempt)
        waiting = get_job(node.ledger, job.id).deliveries[0]
        assert (waiting.attempts, waiting.waits) == (attempt, 0)
    failed = get_job(node.ledger, job.id)
    assert failed.state == JobState.FAILED
    assert failed.reason == (
        f"pacs: 3 of 3 images not stored, status None (after {attempts} attempts)."
    )
    assert [told.id for told in unnotified(node.ledger)] == [job.id]


def test_progress_uses_up_no_attempt(node: NodeFixture, office: Office, network: Network) -> None:
    job = ready(node)
    network.plan = {("pacs", "3.dcm"): [None]}
    office.send()
    assert get_job(node.ledger, job.id).deliveries[0].attempts == 0
    office.send(START + 30)
    assert get_job(node.ledger, job.id).state == JobState.DONE


def test_a_peer_out_of_resources_is_waited_for(
    node: NodeFixture, office: Office, network: Network
) -> None:
    job = ready(node)
    network.plan = {("pacs", f"{n}.dcm"): [0xA700] * 30 for n in (1, 2, 3)}
    for half_hour in range(30):
        assert office.send(START + 1800 * half_hour)
    assert get_job(node.ledger, job.id).deliveries[0].attempts == 0
    office.send(START + 1800 * 30)
    assert get_job(node.ledger, job.id).state == JobState.DONE
    assert len(network.received) == len(set(network.received)) == 3


def test_stopping_keeps_what_was_stored(
    node: NodeFixture, office: Office, network: Network
) -> None:
    job = ready(node)
    office.send(stop=lambda: len(network.received) == 2)
    back = get_job(node.ledger, job.id)
    assert (back.state, back.deliveries[0].attempts, back.deliveries[0].confirmed) == (
        JobState.DERIVED,
        0,
        2,
    )
    office.send()
    assert network.received == [("pacs", "1.dcm"), ("pacs", "2.dcm"), ("pacs", "3.dcm")]
    assert get_job(node.ledger, job.id).state == JobState.DONE


def test_what_was_stored_is_noted_while_sending(
    node: NodeFixture, office: Office, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "NOTE_BATCH_SIZE", 2)
    job = ready(node, images=5)
    seen: list[int] = []

    def look() -> bool:
        seen.append(get_job(node.ledger, job.id).deliveries[0].confirmed)
        return False

    office.send(stop=look)
    assert seen == [0, 0, 2, 2, 4]


def test_a_cancelled_job_is_left_alone(node: NodeFixture, office: Office, network: Network) -> None:
    job = ready(node)
    network.on_call = lambda _: cancel(node.ledger, job.id, now=START)
    office.send()
    assert get_job(node.ledger, job.id).state == JobState.CANCELLED


def test_a_missing_result_is_reported_and_made_again_on_demand(
    node: NodeFixture, office: Office
) -> None:
    job = ready(node)
    node.outbox.remove(job.token)
    office.send()
    failed = get_job(node.ledger, job.id)
    assert failed.state == JobState.FAILED
    assert f"`dicom-node jobs retry {job.id}` makes them again" in failed.reason
    assert retry(node.ledger, job.id, now=START).state == JobState.QUEUED


def test_a_destination_removed_from_the_configuration_is_reported(
    node: NodeFixture, office: Office
) -> None:
    job = ready(node, ["gone"])
    office.send()
    failed = get_job(node.ledger, job.id)
    assert failed.state == JobState.FAILED
    assert "'gone' is not in the configuration" in failed.reason


def test_an_unexpected_fault_waits_and_logs_no_header(
    node: NodeFixture, office: Office, network: Network
) -> None:
    job = ready(node)

    def fault(_: str) -> None:
        raise RuntimeError("CANARY")

    network.on_call = fault
    for now in (START, START + 30, START + 90):
        assert office.send(now)
    failed = get_job(node.ledger, job.id)
    assert failed.state == JobState.FAILED
    assert "CANARY" not in failed.reason


def test_couriers_work_beside_each_other(
    node: NodeFixture, office: Office, network: Network
) -> None:
    job = ready(node, ["pacs", "archive"])
    stop, released = threading.Event(), threading.Event()

    def hang(peer: str) -> None:
        if peer == "archive":
            assert released.wait(30)

    network.on_call = hang

    def confirmed() -> list[str]:
        office.sender.start_couriers(stop.is_set)
        deliveries = get_job(node.ledger, job.id).deliveries
        return [d.destination for d in deliveries if d.state == DeliveryState.CONFIRMED]

    try:
        assert wait_until("one has all", confirmed) == ["pacs"]
        released.set()
        wait_until("both have all", lambda: len(confirmed()) == 2)
    finally:
        released.set()
        stop.set()
        office.sender.drain(30)
    assert len(network.received) == len(set(network.received)) == 6


class TestCommitment:
    """A destination from which storage commitment is wanted."""

    @pytest.fixture
    def node(self, tmp_path: Path) -> Iterator[NodeFixture]:
        peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
        node = NodeFixture(
            tmp_path, peers=[{**peer, "storage_commitment": True, "commitment_seconds": 60}]
        )
        yield node
        node.ledger.close()

    def test_a_job_is_done_when_the_report_came_at_once(
        self, node: NodeFixture, office: Office, network: Network
    ) -> None:
        job = ready(node)
        network.committing = lambda uid, uids: Told(uid, uids)
        office.send()
        assert get_job(node.ledger, job.id).state == JobState.DONE
        ((_, uids),) = network.requests
        assert sorted(uids) == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]

    def test_a_job_is_done_when_the_report_came_at_last(
        self, node: NodeFixture, office: Office, network: Network
    ) -> None:
        job = ready(node)
        office.send()
        sending = get_job(node.ledger, job.id)
        assert (sending.state, sending.deliveries[0].state) == (
            JobState.SENDING,
            DeliveryState.COMMITTING,
        )
        ((uid, uids),) = network.requests
        assert report(node.ledger, uid, committed=uids, failed={}, now=START + 5)
        assert get_job(node.ledger, job.id).state == JobState.DONE

    def test_a_report_that_is_overdue_is_asked_for_again_and_nothing_sent(
        self, node: NodeFixture, office: Office, network: Network
    ) -> None:
        job = ready(node)
        office.send()
        assert overdue(node.ledger, now=START + 61)
        network.committing = lambda uid, uids: Told(uid, uids)
        office.send(START + 1000)
        assert get_job(node.ledger, job.id).state == JobState.DONE
        assert len(network.requests) == 2
        assert len(network.received) == 3

    def test_what_was_not_committed_to_is_sent_again(
        self, node: NodeFixture, office: Office, network: Network
    ) -> None:
        job = ready(node)
        network.committing = lambda uid, uids: Told(
            uid, [one for one in uids if one != "1.2.3.2"], {"1.2.3.2": NO_SUCH_INSTANCE}
        )
        office.send()
        assert get_job(node.ledger, job.id).state == JobState.RETRY_WAIT
        network.committing = lambda uid, uids: Told(uid, uids)
        office.send(START + 30)
        assert get_job(node.ledger, job.id).state == JobState.DONE
        assert [uids for _, uids in network.requests][1] == ["1.2.3.2"]
        assert network.received[3:] == [("pacs", "2.dcm")]

    def test_a_refused_request_is_sent_again(
        self, node: NodeFixture, office: Office, network: Network
    ) -> None:
        job = ready(node)

        def busy(_: str, __: list[str]) -> Told | None:
            raise PeerError("pacs is busy.", transient=True)

        network.committing = busy
        office.send()
        waiting = get_job(node.ledger, job.id)
        assert (waiting.state, waiting.reason) == (JobState.RETRY_WAIT, "pacs is busy.")
        network.committing = lambda uid, uids: Told(uid, uids)
        office.send(START + 30)
        assert get_job(node.ledger, job.id).state == JobState.DONE
        assert len(network.received) == 3


class TestReporter:
    """This node as the one that commits."""

    ITEMS = (("1.2.840.10008.5.1.4.1.1.2", "1.2.1"), ("1.2.840.10008.5.1.4.1.1.2", "1.2.99"))

    def asked(self, node: NodeFixture, requester: str = "PACS") -> Reporter:
        node.arrive(sop_uid="1.2.1")
        accept_request(
            node.ledger,
            transaction_uid="1.2.3.4",
            requester=requester,
            items=self.ITEMS,
            now=START,
        )
        return Reporter(self.office.context)

    @pytest.fixture(autouse=True)
    def _office(self, office: Office) -> None:
        self.office = office

    def test_the_requester_gets_a_report_of_the_held_images(
        self, node: NodeFixture, network: Network
    ) -> None:
        reporter = self.asked(node)
        assert reporter.report()
        assert network.reports == [("pacs", "1.2.3.4", {"1.2.1"})]
        assert not reporter.report()

    def test_an_unreachable_requester_gets_its_report_later(
        self, node: NodeFixture, network: Network
    ) -> None:
        reporter = self.asked(node)
        network.away = {"pacs"}
        assert reporter.report()
        assert not reporter.report()
        network.away = set()
        self.office.now = START + 30
        assert reporter.report()
        assert len(network.reports) == 1

    def test_a_requester_that_no_peer_matches_gets_no_report(
        self, node: NodeFixture, network: Network
    ) -> None:
        assert self.asked(node, requester="STRANGER").report()
        assert network.reports == []
        assert claim_report(node.ledger, owner="x", clock=at(START + 1e6)) is None

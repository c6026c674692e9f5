"""Storage commitment as this node asks for it and reports it, against pynetdicom as the peer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import CTImageStorage, StorageCommitmentPushModel
from support.ct_factory import make_series
from support.peers import free_port

from dicom_node.dimse.commitment import CommitmentReport
from dicom_node.errors import PeerError
from dicom_node.sending.commitment import report_commitment
from dicom_node.sending.storage import StorageSession
from dicom_node.settings import PeerSettings

ITEMS = [(str(CTImageStorage), f"1.2.3.{number}") for number in (1, 2, 3)]
Act = Callable[[Event, Dataset], None]


def report_of(request: Dataset, failed: int = 0) -> tuple[int, Dataset]:
    """Event type and data set of a report that fails the last so many instances."""
    report, references = Dataset(), list(request.ReferencedSOPSequence)
    report.TransactionUID = request.TransactionUID
    kept = len(references) - failed
    if references[:kept]:
        report.ReferencedSOPSequence = references[:kept]
    if failed:
        report.FailedSOPSequence = references[kept:]
        for item in report.FailedSOPSequence:
            item.FailureReason = 0x0112
    return (2 if failed else 1), report


class Pacs:
    """A provider of storage commitment that reports as told."""

    def __init__(self) -> None:
        self.requests: list[Dataset] = []
        self.reports: list[tuple[int, Dataset]] = []
        self.stored: list[str] = []
        self.answers: list[int] = []
        self.associations: list[object] = []
        self.status = 0x0000  # of N-ACTION and N-EVENT-REPORT
        self.answered = threading.Event()
        self.act: Act = lambda *_: None
        self.entity = AE(ae_title="PACS")
        self.peer = PeerSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port())

    def start(self, *, commits: bool = True) -> Pacs:
        self.entity.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
        if commits:
            self.entity.add_supported_context(
                StorageCommitmentPushModel, scu_role=True, scp_role=True
            )
        handlers = [
            (evt.EVT_C_STORE, self.on_store),
            (evt.EVT_N_ACTION, self.on_action),
            (evt.EVT_N_EVENT_REPORT, self.on_report),
        ]
        address = ("127.0.0.1", self.peer.port)
        self.entity.start_server(address, block=False, evt_handlers=handlers)
        return self

    def on_store(self, event: Event) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        self.associations.append(event.assoc)
        return 0x0000

    def on_action(self, event: Event) -> tuple[int, Dataset | None]:
        self.requests.append(event.action_information)
        self.associations.append(event.assoc)
        assert event.action_type == 1
        event.assoc.bind(evt.EVT_PDU_SENT, self.on_answered)
        threading.Thread(target=self.act_later, args=(event, event.action_information)).start()
        return self.status, None

    def on_answered(self, _: Event) -> None:
        self.answered.set()

    def act_later(self, event: Event, request: Dataset) -> None:
        assert self.answered.wait(30)
        self.act(event, request)

    def on_report(self, event: Event) -> tuple[int, Dataset | None]:
        self.reports.append((event.event_type, event.event_information))
        return self.status, None

    def report(self, event: Event, request: Dataset, failed: int = 0) -> None:
        kind, data_set = report_of(request, failed)
        answer, _ = event.assoc.send_n_event_report(
            data_set, kind, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1"
        )
        self.answers.append(answer.Status)


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    pacs = Pacs()
    yield pacs
    pacs.entity.shutdown()


class Listener:
    """Notes the reports that came."""

    def __init__(self) -> None:
        self.reports: list[CommitmentReport] = []

    def __call__(self, report: CommitmentReport) -> int:
        self.reports.append(report)
        return 0x0000


def hang_up(event: Event, _: Dataset) -> None:
    event.assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return make_series(tmp_path, slices=3)


def items(files: list[Path]) -> list[tuple[str, str]]:
    headers = [dcmread(path, stop_before_pixels=True) for path in files]
    return [(str(header.SOPClassUID), str(header.SOPInstanceUID)) for header in headers]


def ask(pacs: Pacs, files: list[Path], wait_seconds: float = 20.0) -> Listener:
    listener = Listener()
    with StorageSession(pacs.peer, files, calling_ae="DENOISE", commitment=True) as session:
        assert all(item.ok for item in session.send())
        session.ask_commitment(generate_uid(), files, on_report=listener, wait_seconds=wait_seconds)
    return listener


def test_a_report_on_the_same_association(pacs: Pacs, files: list[Path]) -> None:
    pacs.start().act = pacs.report
    listener = ask(pacs, files)
    (request,) = pacs.requests
    assert [
        (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID)
        for item in request.ReferencedSOPSequence
    ] == items(files)
    (report,) = listener.reports
    assert report.transaction_uid == request.TransactionUID
    assert report.committed == {uid for _, uid in items(files)}
    assert not report.failed
    assert pacs.answers == [0x0000]
    assert len(set(pacs.associations)) == 1  # images and request went over one


def test_a_report_of_failures(pacs: Pacs, files: list[Path]) -> None:
    pacs.start().act = lambda event, request: pacs.report(event, request, failed=1)
    (report,) = ask(pacs, files).reports
    first, second, third = (uid for _, uid in items(files))
    assert report.committed == {first, second}
    assert report.failed == {third: 0x0112}


def test_a_peer_that_reports_later_is_not_waited_for(pacs: Pacs, files: list[Path]) -> None:
    pacs.start()
    assert ask(pacs, files, wait_seconds=0.2).reports == []


def test_a_peer_that_hangs_up_after_its_answer_reports_later(pacs: Pacs, files: list[Path]) -> None:
    pacs.start().act = hang_up
    assert ask(pacs, files).reports == []


@pytest.mark.parametrize(("status", "transient"), [(0x0110, True), (0x0213, True), (0x0123, False)])
def test_a_request_that_is_not_taken(
    pacs: Pacs, files: list[Path], status: int, transient: bool
) -> None:
    pacs.start().status = status
    with pytest.raises(PeerError, match=f"status 0x{status:04X}") as error:
        ask(pacs, files)
    assert error.value.transient is transient


def test_a_peer_without_storage_commitment_is_lasting(pacs: Pacs, files: list[Path]) -> None:
    pacs.start(commits=False)
    with pytest.raises(PeerError, match="offers no storage commitment") as error:
        ask(pacs, files)
    assert not error.value.transient
    assert len(pacs.stored) == 3


@pytest.mark.parametrize(("held", "kind"), [({"1.2.3.1", "1.2.3.2", "1.2.3.3"}, 1), (set(), 2)])
def test_this_nodes_own_report(pacs: Pacs, held: set[str], kind: int) -> None:
    pacs.start()
    uid = generate_uid()
    report_commitment(pacs.peer, uid, ITEMS, held, calling_ae="DENOISE")
    ((event_type, report),) = pacs.reports
    assert event_type == kind
    assert report.TransactionUID == uid
    committed = [item.ReferencedSOPInstanceUID for item in report.get("ReferencedSOPSequence", [])]
    assert committed == sorted(held)


def test_a_refused_report_is_sent_again(pacs: Pacs) -> None:
    pacs.start().status = 0x0110
    with pytest.raises(PeerError, match="does not accept the report") as error:
        report_commitment(pacs.peer, generate_uid(), ITEMS, set(), calling_ae="DENOISE")
    assert error.value.transient

"""The sender against a Storage SCP that behaves in every way a PACS does."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import CTImageStorage, MRImageStorage, Verification
from support.ct_factory import make_series
from support.peers import free_port, listening, require_program, running, wait_until

from dicom_node.dimse import proposal
from dicom_node.errors import PeerError, UnreadableFile
from dicom_node.sending.calls import SendResult, echo, send_files
from dicom_node.sending.outgoing import describe_file
from dicom_node.settings import PeerSettings

Answer = Callable[[Event], int]


class Pacs:
    """A Storage SCP that answers as told."""

    def __init__(self) -> None:
        self.received: list[Event] = []
        self.answers: list[int] = []
        self.break_off: set[int] = set()
        self.entity = AE(ae_title="PACS")
        self.peer = PeerSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port())

    def start(self, syntaxes: Sequence[UID] = (ExplicitVRLittleEndian,)) -> Pacs:
        self.entity.require_called_aet = True
        self.entity.add_supported_context(CTImageStorage, list(syntaxes))
        self.entity.add_supported_context(Verification)
        self.entity.start_server(
            ("127.0.0.1", self.peer.port),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, self.on_store)],
        )
        return self

    def on_store(self, event: Event) -> int:
        if len(self.received) in self.break_off:
            event.assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        self.received.append(event)
        return self.answers.pop(0) if self.answers else 0

    def send(self, files: list[Path]) -> list[SendResult]:
        return send_files(self.peer, files, calling_ae="DENOISE")


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    pacs = Pacs()
    yield pacs
    pacs.entity.shutdown()


def test_every_file_gets_its_status_in_order(pacs: Pacs, tmp_path: Path) -> None:
    files = make_series(tmp_path, slices=3)
    pacs.start().answers = [0x0000, 0xA700, 0xC000]
    told: list[tuple[int, int]] = []
    results = send_files(
        pacs.peer,
        files,
        calling_ae="DENOISE",
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert [item.path for item in results] == files
    assert [item.status for item in results] == [0x0000, 0xA700, 0xC000]
    assert [item.ok for item in results] == [True, False, False]
    assert [item.transient for item in results] == [False, True, False]
    assert "out of resources (status 0xA700)" in results[1].sentence
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("status", [0x0000, 0x0111, 0xB000, 0xB006, 0xB007])
def test_the_peer_has_the_image(status: int) -> None:
    assert SendResult(Path("a.dcm"), "1.2.3", status).ok


@pytest.mark.parametrize(
    ("status", "transient"),
    [(None, True), (0xA700, True), (0x0110, True), (0x0122, False), (0xA900, False)],
)
def test_which_failures_pass(status: int | None, transient: bool) -> None:
    result = SendResult(Path("a.dcm"), "1.2.3", status)
    assert not result.ok
    assert result.transient is transient
    assert result.sentence


def test_an_image_whose_answer_was_lost_is_sent_again_on_a_new_association(
    pacs: Pacs, tmp_path: Path
) -> None:
    pacs.start().break_off = {1}
    results = pacs.send(make_series(tmp_path, slices=3))
    assert [item.status for item in results] == [0, 0, 0]
    assert len({event.assoc for event in pacs.received}) == 2
    assert pacs.received[1].request.AffectedSOPInstanceUID == results[1].sop_instance_uid
    assert pacs.received[2].request.AffectedSOPInstanceUID == results[1].sop_instance_uid


def test_an_image_that_breaks_every_association_holds_up_no_other(
    pacs: Pacs, tmp_path: Path
) -> None:
    pacs.start().break_off = {1, 2}
    results = pacs.send(make_series(tmp_path, slices=4))
    assert [item.status for item in results] == [0, None, 0, 0]
    assert results[1].transient


def test_a_peer_that_breaks_every_association_is_left_alone(pacs: Pacs, tmp_path: Path) -> None:
    pacs.start().break_off = set(range(1, 99))
    results = pacs.send(make_series(tmp_path, slices=9))
    assert [item.status for item in results] == [0] + 8 * [None]
    assert len(pacs.received) == 5


def test_the_bytes_arrive_as_they_lie_on_disk(pacs: Pacs, tmp_path: Path) -> None:
    (path,) = make_series(tmp_path, slices=1)
    pacs.start()
    pacs.send([path])
    assert path.read_bytes().endswith(pacs.received[0].encoded_dataset(include_meta=False))


def test_a_peer_with_implicit_vr_only_gets_implicit_vr(pacs: Pacs, tmp_path: Path) -> None:
    (path,) = make_series(tmp_path, slices=1)
    pacs.start([ImplicitVRLittleEndian])
    assert [item.status for item in pacs.send([path])] == [0]
    assert pacs.received[0].context.transfer_syntax == ImplicitVRLittleEndian
    assert pacs.received[0].dataset.PixelData == dcmread(path).PixelData


def test_a_compressed_file_goes_only_to_a_peer_that_takes_it(pacs: Pacs, tmp_path: Path) -> None:
    plain, packed = make_series(tmp_path, slices=2)
    dataset = dcmread(packed)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(packed)
    pacs.start()
    results = pacs.send([plain, packed])
    assert [item.ok for item in results] == [True, False]
    assert "does not accept this SOP class or transfer syntax" in results[1].sentence


def deflated(folder: Path, *, odd: bool) -> Path:
    """A deflated file whose compressed data set is of odd, or of even, length."""
    for number in range(64):
        (path,) = make_series(folder / str(number), slices=1, seed=number)
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(path)
        whole, offset = path.read_bytes(), describe_file(path).offset
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(whole[offset:])
        packed = packer.compress(inflated) + packer.flush()
        path.write_bytes(whole[:offset] + packed)
        if len(packed) % 2 == odd:
            return path
    raise AssertionError("no data set of such a length")


@pytest.mark.parametrize("odd", [True, False])
def test_a_deflated_file_of_any_length_is_sent(pacs: Pacs, tmp_path: Path, odd: bool) -> None:
    path = deflated(tmp_path, odd=odd)
    pacs.start([DeflatedExplicitVRLittleEndian])
    assert [item.status for item in pacs.send([path])] == [0]
    sent = pacs.received[0].request.DataSet.getvalue()
    assert sent == path.read_bytes()[describe_file(path).offset :] + b"\0" * odd
    assert pacs.received[0].dataset.PixelData == dcmread(path).PixelData


def test_dcmtk_takes_a_deflated_file_of_odd_length(tmp_path: Path) -> None:
    path, port = deflated(tmp_path / "scan", odd=True), free_port()
    command = [require_program("storescp"), "+xd", "-od", tmp_path, str(port)]
    peer = PeerSettings(name="dcmtk", ae_title="ANY", host="127.0.0.1", port=port)
    with running(command, tmp_path / "storescp.log", cwd=tmp_path):
        wait_until("storescp listens", lambda: listening(port))
        (result,) = send_files(peer, [path], calling_ae="DENOISE")
    assert result.status == 0
    (arrived,) = tmp_path.glob("CT*")
    assert dcmread(arrived).PixelData == dcmread(path).PixelData


def test_refused_images_are_reported_by_class_and_transfer_syntax(
    pacs: Pacs, tmp_path: Path
) -> None:
    pacs.start([JPEG2000Lossless])
    with pytest.raises(PeerError) as error:
        pacs.send(make_series(tmp_path, slices=1))
    for syntax in ("Explicit VR Little Endian", "Implicit VR Little Endian"):
        told = f"CT Image Storage in {syntax} (transfer syntax not supported)"
        assert told in str(error.value)


def test_the_log_of_a_broken_association_says_what_was_agreed(
    pacs: Pacs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pacs.start().break_off = set(range(99))
    pacs.send(make_series(tmp_path, slices=1))
    told = capsys.readouterr()
    lines = [line for line in (told.out + told.err).splitlines() if "association broke" in line]
    assert lines
    assert "CT Image Storage in Explicit VR Little Endian" in lines[0]
    assert "CT Image Storage in Implicit VR Little Endian (transfer syntax not" in lines[0]


def test_a_peer_that_accepts_no_image_gives_one_sentence(pacs: Pacs, tmp_path: Path) -> None:
    pacs.start([JPEG2000Lossless])
    with pytest.raises(PeerError, match="accepts none of: CT Image Storage") as error:
        pacs.send(make_series(tmp_path, slices=1))
    assert not error.value.transient


def test_dcmtk_gets_every_image_as_it_lies_on_disk(tmp_path: Path) -> None:
    files = make_series(tmp_path / "scan", slices=20, size=256)
    packed = dcmread(files[0])
    packed.compress(RLELossless, generate_instance_uid=False)
    packed.save_as(files[0])
    port, stored = free_port(), tmp_path / "stored"
    stored.mkdir()
    # Bit preserving, every transfer syntax, and files named by their SOP Instance UID.
    command = [require_program("storescp"), "+B", "+xa", "-od", stored, str(port)]
    peer = PeerSettings(name="dcmtk", ae_title="ANY", host="127.0.0.1", port=port)
    with running(command, tmp_path / "storescp.log", cwd=tmp_path):
        wait_until("storescp listens", lambda: listening(port))
        results = send_files(peer, files, calling_ae="DENOISE")
    assert [item.status for item in results] == [0] * 20
    arrived = {path.name.partition(".")[2]: path for path in stored.iterdir()}
    for path, result in zip(files, results, strict=True):
        offset = describe_file(path).offset
        assert arrived[result.sop_instance_uid].read_bytes().endswith(path.read_bytes()[offset:])


@pytest.mark.filterwarnings("ignore")  # pynetdicom leaves the closing of its socket to Python
def test_a_refused_connection_is_transient(pacs: Pacs) -> None:
    with pytest.raises(PeerError, match=r"No connection to pacs \(PACS at 127.0.0.1:") as error:
        echo(pacs.peer, calling_ae="DENOISE")
    assert error.value.transient


def test_a_wrong_title_is_lasting(pacs: Pacs) -> None:
    pacs.start()
    wrong = pacs.peer.model_copy(update={"ae_title": "OTHER"})
    with pytest.raises(PeerError, match="Called AE title not recognised") as error:
        echo(wrong, calling_ae="DENOISE")
    assert not error.value.transient


def test_echo_gives_the_time(pacs: Pacs) -> None:
    pacs.start()
    assert 0 < echo(pacs.peer, calling_ae="DENOISE") < 10


def test_nothing_to_send_opens_no_association(pacs: Pacs) -> None:
    assert pacs.send([]) == []


def test_a_file_that_is_not_dicom_is_named(pacs: Pacs, tmp_path: Path) -> None:
    path = tmp_path / "text.dcm"
    path.write_text("hello")
    with pytest.raises(UnreadableFile, match=r"text\.dcm cannot be sent"):
        pacs.send([path])


def test_more_kinds_than_an_association_carries_is_one_sentence() -> None:
    kinds = [(f"{MRImageStorage}.{number}", ExplicitVRLittleEndian) for number in range(65)]
    with pytest.raises(PeerError, match="130 combinations"):
        proposal.storage_contexts(kinds)

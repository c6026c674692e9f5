"""The receiver over real associations: what it takes, what it refuses and with which words."""

from __future__ import annotations

import socket
import subprocess
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import (
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.sop_class import CTImageStorage, Verification
from support.ct_factory import make_series, recode
from support.peers import listening, require_program, wait_until
from support.receivers import Running, Start, data_set_of

from dicom_node.ct.transfer_syntaxes import UNCOMPRESSED
from dicom_node.errors import ConfigurationError, PeerError, StorageError
from dicom_node.ledger.series import list_series
from dicom_node.sending.calls import echo
from dicom_node.store.inbox import Inbox

OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

PACKED = (JPEGLSLossless, RLELossless)


def test_images_are_in_inbox_and_ledger_before_the_answer(start: Start, tmp_path: Path) -> None:
    node, files = start(), make_series(tmp_path / "ct", slices=3)
    assert node.send(files) == [0, 0, 0]
    (series,) = list_series(node.ledger)
    assert len(series.names) == len(node.files()) == 3
    for name, source in zip(sorted(series.names), sorted(node.files()), strict=True):
        assert node.settings.inbox_folder / name == source
    sent = {dcmread(path).PixelData for path in files}
    assert {dcmread(path).PixelData for path in node.files()} == sent


def test_the_same_images_again_make_no_second_copy(start: Start, tmp_path: Path) -> None:
    node, files = start(), make_series(tmp_path / "ct", slices=3)
    assert node.send(files) == node.send(files) == [0, 0, 0]
    assert len(node.files()) == len(list_series(node.ledger)[0].names) == 3


def test_other_bytes_under_a_known_uid_are_set_aside(start: Start, tmp_path: Path) -> None:
    node, files = start(), make_series(tmp_path / "ct", slices=1)
    node.send(files)
    dataset = dcmread(files[0])
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(files[0])
    assert node.send(files) == [0]
    assert len(node.files()) == len(list_series(node.ledger)[0].names) == 1
    assert len(list(node.settings.quarantine_folder.rglob("*.dcm"))) == 1


def test_a_full_disk_is_answered_with_out_of_resources(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, files = start(), make_series(tmp_path / "ct", slices=1)

    def full(*_: object, **__: object) -> None:
        raise StorageError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(Inbox, "begin", full)
        assert node.send(files) == [OUT_OF_RESOURCES]
    assert node.send(files) == [0]


def test_the_reserve_of_free_disk_is_not_touched(start: Start, tmp_path: Path) -> None:
    node = start(retention={"disk_reserve_gib": 1e9})
    with pytest.raises(PeerError, match="Temporary congestion") as refused:
        node.send(make_series(tmp_path / "ct", slices=1))
    assert refused.value.transient
    assert node.files() == []
    assert echo(node.peer, calling_ae="SCANNER") > 0


def test_an_unexpected_error_does_not_end_the_association(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, files = start(), make_series(tmp_path / "ct", slices=1)
    monkeypatch.setattr(Inbox, "begin", None)
    assert node.send([*files, *files]) == [OUT_OF_RESOURCES, OUT_OF_RESOURCES]


@pytest.mark.parametrize("keyword", ["SeriesInstanceUID", "StudyInstanceUID"])
def test_an_image_without_a_needed_uid_is_refused(
    start: Start, tmp_path: Path, keyword: str
) -> None:
    node = start()
    files = make_series(tmp_path / "ct", slices=1, change=lambda dataset: dataset.pop(keyword))
    assert node.send(files) == [CANNOT_UNDERSTAND]
    assert node.files() == []


@pytest.mark.filterwarnings("ignore")  # pydicom warns of what it meets in them
def test_bytes_that_are_no_data_set_are_refused(start: Start) -> None:
    node = start()
    assert store_raw(node, b"\xff" * 1000, sop_uid="1.2.3") == CANNOT_UNDERSTAND
    assert node.files() == []


def test_a_data_set_other_than_announced_is_refused(start: Start, tmp_path: Path) -> None:
    node = start()
    (path,) = make_series(tmp_path / "ct", slices=1)
    raw = encode(dcmread(path), False, True)
    assert raw is not None
    assert store_raw(node, raw, sop_uid="1.2.3") == DOES_NOT_MATCH


def test_an_mr_image_named_as_ct_is_refused(start: Start, tmp_path: Path) -> None:
    def as_mr(dataset: Any) -> None:
        dataset.SOPClassUID = MRImageStorage

    node = start()
    (path,) = make_series(tmp_path / "ct", slices=1, change=as_mr)
    dataset = dcmread(path)
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.save_as(path)
    assert node.send([path]) == [DOES_NOT_MATCH]


def test_only_ct_storage_and_verification_are_offered(start: Start) -> None:
    node = start()
    entity = AE(ae_title="SCANNER")
    for sop_class in (MRImageStorage, CTImageStorage, Verification):
        entity.add_requested_context(sop_class)
    association = entity.associate("127.0.0.1", node.settings.listen.port, ae_title="DENOISE")
    try:
        assert {item.abstract_syntax for item in association.accepted_contexts} == {
            CTImageStorage,
            Verification,
        }
    finally:
        association.release()


def test_a_wrong_called_title_is_rejected(start: Start) -> None:
    node = start()
    wrong = node.peer.model_copy(update={"ae_title": "OTHER"})
    with pytest.raises(PeerError, match="Called AE title not recognised"):
        echo(wrong, calling_ae="SCANNER")


def test_an_unlisted_calling_title_is_rejected(start: Start) -> None:
    node = start(accept={"calling": ["SCANNER"]})
    assert echo(node.peer, calling_ae="SCANNER") > 0
    with pytest.raises(PeerError, match="Calling AE title not recognised"):
        echo(node.peer, calling_ae="STRANGER")


def test_one_peer_cannot_take_every_association(start: Start) -> None:
    node = start(listen={"max_associations_per_peer": 2})
    held = [associate(node, "GREEDY") for _ in range(2)]
    try:
        assert all(item.is_established for item in held)
        assert associate(node, "GREEDY").is_rejected
        assert echo(node.peer, calling_ae="GREEDY") > 0
        other = associate(node, "OTHER")
        held.append(other)
        assert other.is_established
    finally:
        for item in held:
            item.release()


def test_a_port_in_use_is_one_sentence(start: Start, tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(
            ConfigurationError, match=f"Port {port} on 127.0.0.1 is in use"
        ) as error:
            start(listen={"port": port})
    assert "\n" not in str(error.value)


def test_a_running_association_may_finish_when_the_node_stops(start: Start, tmp_path: Path) -> None:
    node, files = start(), make_series(tmp_path / "ct", slices=2)
    association = associate(node, "SCANNER")
    assert association.send_c_store(dcmread(files[0])).Status == 0
    stopping = threading.Thread(target=node.receiver.stop)
    stopping.start()
    wait_until("no longer listening", lambda: not listening(node.settings.listen.port))
    assert association.send_c_store(dcmread(files[1])).Status == 0
    association.release()
    stopping.join()
    assert len(node.files()) == 2


def associate(node: Running, calling: str) -> Association:
    entity = AE(ae_title=calling)
    entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    return entity.associate("127.0.0.1", node.settings.listen.port, ae_title="DENOISE")


def store_raw(node: Running, raw: bytes, *, sop_uid: str) -> int:
    """Send bytes as a data set, as no well-behaved sender would."""
    association = associate(node, "SCANNER")
    try:
        request = C_STORE()
        request.MessageID = 1
        request.Priority = 2
        request.AffectedSOPClassUID = CTImageStorage
        request.AffectedSOPInstanceUID = sop_uid
        request.DataSet = BytesIO(raw)
        context = association.accepted_contexts[0]
        association._reactor_checkpoint.clear()
        association.dimse.send_msg(request, context.context_id)
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        return int(answer.Status)
    finally:
        association.release()


@pytest.mark.parametrize("syntax", [str(item) for item in (*UNCOMPRESSED, *PACKED)])
def test_an_image_is_stored_as_it_was_sent(start: Start, tmp_path: Path, syntax: str) -> None:
    node = start()
    (path,) = make_series(tmp_path / "ct", slices=1)
    recode(path, syntax)
    assert node.send([path]) == [0]
    (stored,) = node.files()
    assert dcmread(stored).file_meta.TransferSyntaxUID == syntax
    assert data_set_of(stored) == data_set_of(path)


@pytest.mark.parametrize(
    ("command", "syntax"),
    [
        (("dcmcjpeg", "+e1"), JPEGLosslessSV1),
        (("dcmcjpeg", "+el"), JPEGLossless),
        (("dcmcjpls", "+el"), JPEGLSLossless),
        (("dcmcrle",), RLELossless),
        (("gdcmconv", "--j2k"), JPEG2000Lossless),
    ],
)
def test_images_that_other_programs_compressed_are_stored_as_sent(
    start: Start, tmp_path: Path, command: tuple[str, ...], syntax: str
) -> None:
    node = start()
    (path,) = make_series(tmp_path / "ct", slices=1)
    packed = tmp_path / "packed.dcm"
    subprocess.run([require_program(command[0]), *command[1:], path, packed], check=True)
    assert dcmread(packed).file_meta.TransferSyntaxUID == syntax
    assert node.send([packed]) == [0]
    (stored,) = node.files()
    assert data_set_of(stored) == data_set_of(packed)


def test_enhanced_ct_is_taken_only_where_the_configuration_says_so(
    start: Start, tmp_path: Path
) -> None:
    def as_enhanced(dataset: Any) -> None:
        dataset.SOPClassUID = EnhancedCTImageStorage

    (path,) = make_series(tmp_path / "ct", slices=1, change=as_enhanced)
    with pytest.raises(PeerError, match="accepts none of: Enhanced CT Image Storage"):
        start().send([path])
    assert start(accept={"enhanced_ct": True}).send([path]) == [0]


def test_who_is_not_in_the_list_of_hosts_is_hung_up_on(start: Start, tmp_path: Path) -> None:
    refused = start(accept={"hosts": ["192.0.2.0/24"]})
    with pytest.raises(PeerError):
        echo(refused.peer, calling_ae="SCANNER")
    assert echo(start(accept={"hosts": ["127.0.0.0/8"]}).peer, calling_ae="SCANNER") > 0


def test_port_checks_and_aborted_associations_leave_nothing_behind(start: Start) -> None:
    node = start(listen={"max_associations": 2})

    def knock(times: int) -> None:
        for _ in range(times):
            socket.create_connection(("127.0.0.1", node.settings.listen.port)).close()
            associate(node, "SCANNER").abort()

    knock(20)
    wait_until("the connections are gone", lambda: not connections())
    before = open_files()
    knock(200)
    wait_until("the connections are gone", lambda: not connections())
    wait_until("the files are closed", lambda: open_files() <= before)
    held = [associate(node, "SCANNER"), associate(node, "OTHER")]
    assert all(item.is_established for item in held)
    for item in held:
        item.release()


def connections() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "association"]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))

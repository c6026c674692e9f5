"""One Series UID in two studies: the second is refused, and the sender is told in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage
from support.ct_factory import change_header, make_series
from support.ledger_factory import START, NodeFixture
from support.peers import free_port, storescu

from dicom_node.ledger.arrivals import Arrival, Recorded, record_instances
from dicom_node.ledger.series import list_series
from dicom_node.ledger.states import SeriesState
from dicom_node.receiving.receiver import Receiver
from dicom_node.receiving.reception import Reception

CANNOT_UNDERSTAND = 0xC000
COMMENT = "This Series UID is known here in another study: not stored."


@pytest.fixture
def node(database: str, tmp_path: Path) -> Iterator[NodeFixture]:
    listen = {"host": "127.0.0.1", "port": free_port()}
    built = NodeFixture(
        tmp_path, database=database, listen=listen, retention={"disk_reserve_gib": 0}
    )
    receiver = Receiver(built.settings, Reception(built.settings, built.ledger))
    receiver.start()
    yield built
    receiver.stop(drain_seconds=0)
    built.ledger.close()


def send(node: NodeFixture, files: list[Path]) -> list[Dataset]:
    """The answers, as another program reads them."""
    ae = AE("SCANNER")
    ae.add_requested_context(CTImageStorage)
    with_port = node.settings.listen.port
    association = ae.associate("127.0.0.1", with_port, ae_title="DENOISE")
    assert association.is_established
    answers = [association.send_c_store(dcmread(path)) for path in files]
    association.release()
    return answers


def in_another_study(files: list[Path]) -> list[Path]:
    for path in files:
        change_header(path, StudyInstanceUID="1.2.840.1")
    return files


@pytest.fixture
def scan(tmp_path: Path) -> list[Path]:
    return make_series(tmp_path / "ct", slices=4, size=32)


def kept(node: NodeFixture) -> int:
    (series,) = list_series(node.ledger)
    files = [*node.inbox.root.rglob("*.dcm")]
    assert {path.relative_to(node.inbox.root).as_posix() for path in files} == set(series.names)
    assert not [*node.settings.quarantine_folder.rglob("*.dcm")]
    return len(files)


def test_an_image_of_another_study_is_refused_with_a_sentence(
    node: NodeFixture, scan: list[Path]
) -> None:
    in_another_study(scan[2:])
    answers = send(node, scan)
    assert [answer.Status for answer in answers] == [0, 0, CANNOT_UNDERSTAND, CANNOT_UNDERSTAND]
    assert [answer.get("ErrorComment", "") for answer in answers] == ["", "", COMMENT, COMMENT]
    assert kept(node) == 2


def test_the_same_images_in_another_study_are_refused_too(
    node: NodeFixture, scan: list[Path]
) -> None:
    send(node, scan)
    (answer,) = send(node, in_another_study(scan[:1]))
    assert (answer.Status, answer.ErrorComment) == (CANNOT_UNDERSTAND, COMMENT)
    assert kept(node) == 4


def test_a_finished_series_stays_in_its_study(node: NodeFixture, scan: list[Path]) -> None:
    send(node, scan[:2])
    node.complete(START + 10**10)
    in_another_study(scan[2:])
    assert [answer.Status for answer in send(node, scan[2:])] == [CANNOT_UNDERSTAND] * 2
    (series,) = list_series(node.ledger)
    assert (series.state, series.generation) == (SeriesState.COMPLETE, 1)
    assert kept(node) == 2


def test_dcmtk_sees_the_refusal(node: NodeFixture, scan: list[Path]) -> None:
    port = node.settings.listen.port
    storescu(scan[:3], port, calling="CTSCAN", called="DENOISE")
    in_another_study(scan[3:])
    with pytest.raises(AssertionError):
        storescu(scan[3:], port, calling="CTSCAN", called="DENOISE")
    assert kept(node) == 3


def test_of_two_studies_at_once_the_first_is_kept(node: NodeFixture) -> None:
    arrivals = [
        Arrival("1.2", study, f"1.2.{number}", f"{number:064}", f"s/{number}.dcm", 1, "CT")
        for number, study in enumerate(("1.1", "1.9", "1.1"))
    ]
    recorded = record_instances(node.ledger, arrivals, now=START, exists=lambda _: True)
    assert recorded == [Recorded.NEW, Recorded.OTHER_STUDY, Recorded.NEW]
    again = record_instances(node.ledger, arrivals, now=START, exists=lambda _: True)
    assert again == [Recorded.DUPLICATE, Recorded.OTHER_STUDY, Recorded.DUPLICATE]

"""Storage commitment at the receiver: pynetdicom asks, and reports, well and wrongly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom import AE, build_role
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    CTImageStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)
from support.peers import free_port

from dicom_node.ledger.commitment_requests import CommitmentRequest, claim_report
from dicom_node.ledger.engine import Ledger, open_ledger
from dicom_node.receiving.commitment import commitment_service
from dicom_node.receiving.receiver import Receiver
from dicom_node.receiving.reception import Reception
from dicom_node.settings import Settings

TRANSACTION = "1.2.826.0.1.3680043.8.498.77"
LATER = 4_000_000_000.0


@dataclass
class Node:
    """A receiver in this process."""

    settings: Settings
    ledger: Ledger

    def owed(self) -> list[CommitmentRequest]:
        """Every report that is owed now."""
        found = []
        while (report := claim_report(self.ledger, owner="test", clock=lambda: LATER)) is not None:
            found.append(report.request)
        return found


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    settings = Settings.model_validate(
        {
            "ae_title": "DENOISE",
            "listen": {"host": "127.0.0.1", "port": free_port()},
            "storage": tmp_path / "var",
            "database": f"sqlite:///{tmp_path}/var/ledger.db",
            "peers": [peer],
            "destinations": ["pacs"],
            "retention": {"disk_reserve_gib": 0},
        }
    )
    ledger = open_ledger(settings.database)
    services = [commitment_service(settings, ledger)]
    receiver = Receiver(settings, Reception(settings, ledger), services=services)
    receiver.start()
    try:
        yield Node(settings, ledger)
    finally:
        receiver.stop(drain_seconds=0)
        ledger.close()


@contextlib.contextmanager
def associated(node: Node, calling: str = "PACS", **options: Any) -> Iterator[Association]:
    entity = AE(ae_title=calling)
    entity.add_requested_context(StorageCommitmentPushModel)
    port = node.settings.listen.port
    association = entity.associate("127.0.0.1", port, ae_title="DENOISE", **options)
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def references(*sop_uids: str) -> list[Dataset]:
    items = []
    for sop_uid in sop_uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, sop_uid
        items.append(item)
    return items


def data_set(sop_uids: Sequence[str] = ("1.2.3", "1.2.4"), **changes: Any) -> Dataset:
    dataset = Dataset()
    dataset.TransactionUID = TRANSACTION
    dataset.ReferencedSOPSequence = references(*sop_uids)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


def ask(
    node: Node,
    dataset: Dataset | None,
    *,
    calling: str = "PACS",
    action: int = 1,
    instance: str = StorageCommitmentPushModelInstance,
) -> int:
    with associated(node, calling) as association:
        status, _ = association.send_n_action(dataset, action, StorageCommitmentPushModel, instance)
        return int(status.Status)


def report(node: Node, dataset: Dataset, event_type: int = 1, **options: Any) -> int:
    roles = [build_role(StorageCommitmentPushModel, scp_role=True)]
    with associated(node, ext_neg=roles) as association:
        status, _ = association.send_n_event_report(
            dataset, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        return int(status.Status)


def test_a_request_is_in_the_ledger_when_it_is_answered(node: Node) -> None:
    assert ask(node, data_set()) == 0x0000
    (owed,) = node.owed()
    assert (owed.requester, owed.transaction_uid) == ("PACS", TRANSACTION)
    assert owed.items == ((CTImageStorage, "1.2.3"), (CTImageStorage, "1.2.4"))


def test_the_same_request_again_is_one_request(node: Node) -> None:
    assert [ask(node, data_set()), ask(node, data_set())] == [0x0000, 0x0000]
    assert len(node.owed()) == 1


def test_only_a_configured_peer_may_ask(node: Node) -> None:
    assert ask(node, data_set(), calling="STRANGER") == 0x0124
    assert node.owed() == []


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"action": 2}, 0x0123),
        ({"instance": "1.2.3"}, 0x0112),
        ({"dataset": references("1.2.3")[0]}, 0x0120),
        ({"dataset": data_set(sop_uids=())}, 0x0120),
        ({"dataset": data_set(TransactionUID="")}, 0x0115),
    ],
)
def test_a_wrong_request_gets_its_status(node: Node, wrong: dict[str, Any], status: int) -> None:
    dataset = wrong.pop("dataset", data_set())
    assert ask(node, dataset, **wrong) == status
    assert node.owed() == []


def test_a_report_on_nothing_we_asked_for_is_refused(node: Node) -> None:
    assert report(node, data_set()) == 0x0115


def test_a_report_of_an_unknown_kind_is_refused(node: Node) -> None:
    assert report(node, data_set(), event_type=7) == 0x0113


def test_the_provider_role_is_granted_when_it_is_asked_for(node: Node) -> None:
    """Orthanc reports on an association of its own, as the provider."""
    roles = [build_role(StorageCommitmentPushModel, scp_role=True)]
    with associated(node, ext_neg=roles) as association:
        (context,) = association.accepted_contexts
        assert context.as_scp

"""A receiver in the process of the test, on a free port, and the images it stored."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dicom_node.audit import NO_AUDIT, Audit
from dicom_node.ledger.engine import Ledger, open_ledger
from dicom_node.receiving.receiver import Receiver
from dicom_node.receiving.reception import Reception
from dicom_node.sending.calls import send_files
from dicom_node.settings import PeerSettings, Settings
from support.peers import free_port


def settings_in(folder: Path, **changes: Any) -> Settings:
    return Settings.model_validate(
        {
            "ae_title": "DENOISE",
            "listen": {"host": "127.0.0.1", "port": free_port(), **changes.pop("listen", {})},
            "storage": folder / "var",
            "database": f"sqlite:///{folder}/var/ledger.db",
            "peers": [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}],
            "destinations": ["pacs"],
            "retention": {"disk_reserve_gib": 0},
            **changes,
        }
    )


class Running:
    """A receiver in this process, and what it kept."""

    def __init__(self, settings: Settings, ledger: Ledger, audit: Audit = NO_AUDIT) -> None:
        self.settings = settings
        self.ledger = ledger
        self.receiver = Receiver(settings, Reception(settings, ledger), audit=audit)
        self.port = settings.listen.port
        self.peer = PeerSettings(
            name="node", ae_title="DENOISE", host="127.0.0.1", port=settings.listen.port
        )

    def files(self) -> list[Path]:
        return sorted(self.settings.inbox_folder.rglob("*.dcm"))

    def send(self, files: list[Path], calling: str = "SCANNER") -> list[int | None]:
        return [item.status for item in send_files(self.peer, files, calling_ae=calling)]


Start = Callable[..., Running]


@contextlib.contextmanager
def starting(folder: Path) -> Iterator[Start]:
    """What starts receivers with changed settings; they end with the block."""
    running: list[Running] = []

    def begin(*, audit: Audit = NO_AUDIT, **changes: Any) -> Running:
        settings = settings_in(folder, **changes)
        node = Running(settings, open_ledger(settings.database), audit)
        node.receiver.start()
        running.append(node)
        return node

    try:
        yield begin
    finally:
        for node in running:
            node.receiver.stop(drain_seconds=0)
            node.ledger.close()


def data_set_of(path: Path) -> bytes:
    """The bytes behind the file meta information."""
    whole = path.read_bytes()
    return whole[144 + int.from_bytes(whole[140:144], "little") :]

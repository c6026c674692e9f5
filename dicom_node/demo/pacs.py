"""A minimal PACS on loopback for the duration of the demonstration."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from types import TracebackType

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.dimse.status import SUCCESS

LOOPBACK = "127.0.0.1"


class DemoPacs:
    """A Storage SCP that writes CT images into one folder.

    Args:
        ae_title: Its AE title.
        folder: Created if missing.
    """

    def __init__(self, ae_title: str, folder: Path) -> None:
        self.ae_title = ae_title
        self.host = LOOPBACK
        self.name = "demo PACS"
        self.series: dict[str, set[Path]] = defaultdict(set)
        self._folder = folder
        self._entity = AE(ae_title=ae_title)
        self._entity.add_supported_context(
            CTImageStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
        )
        self._entity.add_supported_context(Verification)
        self._server: ThreadedAssociationServer | None = None

    def __enter__(self) -> DemoPacs:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._server = self._entity.start_server(
            (LOOPBACK, 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._on_store)]
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._entity.shutdown()

    @property
    def port(self) -> int:
        """The port assigned by the system."""
        return int(self._server.server_address[1]) if self._server is not None else 0

    def _on_store(self, event: Event) -> int:
        dataset = event.dataset
        path = self._folder / f"{int(dataset.InstanceNumber):04d}.dcm"
        path.write_bytes(event.encoded_dataset())
        self.series[str(dataset.SeriesInstanceUID)].add(path)
        return SUCCESS

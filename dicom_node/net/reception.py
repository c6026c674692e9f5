"""One C-STORE request: check, keep in the inbox, record in the ledger, and only then answer."""

from __future__ import annotations

import shutil
import time
from io import BytesIO
from typing import cast

from pydicom import Dataset
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.events import Event

from dicom_node.errors import StorageError, UnreadableFile
from dicom_node.ledger.arrivals import Arrival, Recorded, record_instances
from dicom_node.ledger.engine import Ledger
from dicom_node.logs import get_logger, short_hash
from dicom_node.net.incoming import WrongInstance, check_announced, read_header
from dicom_node.settings import Settings
from dicom_node.store.inbox import Inbox

log = get_logger(__name__)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
"""The answers of a storage SCP, PS3.4, table B.2-1."""

PREAMBLE = b"\x00" * 128 + b"DICM"
GIB = 1024**3


class Reception:
    """Keeps what comes in.

    Args:
        settings: Where to keep it, and how much disk must stay free.
        ledger: Where it is recorded.
    """

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._storage = settings.storage
        self._reserve_bytes = settings.retention.disk_reserve_gib * GIB
        self._inbox = Inbox(settings.inbox_folder, settings.quarantine_folder)
        self._ledger = ledger

    def keep(self, event: Event) -> int:
        """Handle one C-STORE request.

        Returns:
            The status to answer with; success only when the image is in the inbox and the ledger.
        """
        request = cast(C_STORE, event.request)
        dataset = request.DataSet.getvalue() if isinstance(request.DataSet, BytesIO) else b""
        meta = PREAMBLE + encode_file_meta(event.file_meta)
        try:
            header = read_header(meta + dataset)
            check_announced(
                header,
                sop_class_uid=str(request.AffectedSOPClassUID),
                sop_instance_uid=str(request.AffectedSOPInstanceUID),
            )
            self._check_room()
            self._store(header, meta, dataset, source_ae=event.assoc.requestor.ae_title)
        except UnreadableFile as error:
            return _refuse(CANNOT_UNDERSTAND, error)
        except WrongInstance as error:
            return _refuse(DOES_NOT_MATCH, error)
        except StorageError as error:
            return _refuse(OUT_OF_RESOURCES, error)
        return SUCCESS

    def _check_room(self) -> None:
        free = shutil.disk_usage(self._storage).free
        if free < self._reserve_bytes:
            raise StorageError(
                f"Only {free / GIB:.1f} GiB are free under {self._storage}: the reserve of"
                f" {self._reserve_bytes / GIB:.1f} GiB is not touched; make room."
            )

    def _store(self, header: Dataset, meta: bytes, dataset: bytes, *, source_ae: str) -> None:
        series_uid, sop_uid = str(header.SeriesInstanceUID), str(header.SOPInstanceUID)
        stored = self._inbox.put(meta, dataset, series_uid=series_uid, sop_uid=sop_uid)
        arrival = Arrival(
            series_uid=series_uid,
            study_uid=str(header.StudyInstanceUID),
            sop_uid=sop_uid,
            sha256=stored.sha256,
            name=stored.name,
            size=stored.size,
            source_ae=source_ae,
        )
        (recorded,) = record_instances(
            self._ledger, [arrival], now=time.time(), exists=lambda _: stored.path.exists()
        )
        if recorded is Recorded.GONE:
            raise StorageError("an image left the inbox before it was entered; send it again.")
        if recorded is Recorded.CONFLICT:
            # The first version stays the one that counts; the other is kept aside for a person.
            self._inbox.quarantine(stored)
            log.warning("another image came under a known UID", series=short_hash(series_uid))


def _refuse(status: int, error: Exception) -> int:
    log.warning("image refused", status=f"0x{status:04X}", reason=str(error))
    return status

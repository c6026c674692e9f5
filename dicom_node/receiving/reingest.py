"""Re-ingestion of images that were set aside because no ledger knew them.

Each is read as if received, and its bytes are compared with the hash in its name: a file that a
power cut has damaged is left in place.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import time
from collections import Counter
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from dicom_node.custody import Custody
from dicom_node.errors import StorageError, UnreadableFile
from dicom_node.ledger.arrivals import Arrival, Recorded, record_instances
from dicom_node.receiving.header import HeaderWalk, read_header
from dicom_node.settings import Settings
from dicom_node.store.durable import disk_faults
from dicom_node.store.inbox import Inbox, StoredFile, inbox_name
from dicom_node.store.unknown import Unknown

META_START_BYTES = 144
"""Preamble, prefix, and the group length of the File Meta Information (PS3.10, 7.1)."""

DAMAGED = "damaged"


def reingest(custody: Custody, settings: Settings, *, source_ae: str) -> Counter[str]:
    """Record the images in ``unknown`` as if they had just been received.

    Args:
        custody: Ledger and storage, which must belong together.
        settings: The node's folders.
        source_ae: AE title that the rules see as the sender of the images.

    Returns:
        Number of images by outcome: ``new``, ``duplicate`` (known already), ``conflict`` or
        ``other study`` (now in quarantine), ``damaged`` (left in place).

    Raises:
        StorageError: Ledger and storage do not belong together, or one cannot be written.
    """
    custody.verify()
    inbox = Inbox(settings.inbox_folder, settings.quarantine_folder)
    unknown = Unknown(settings.unknown_folder)
    done: Counter[str] = Counter()
    for name in unknown.names():
        try:
            arrival = read_arrival(unknown.path(name), name, source_ae=source_ae)
        except UnreadableFile:
            done[DAMAGED] += 1
            continue
        done[_enter(custody, inbox, unknown, name, arrival)] += 1
    return done


def _enter(
    custody: Custody, inbox: Inbox, unknown: Unknown, name: str, arrival: Arrival
) -> Recorded:
    stored = StoredFile(arrival.name, inbox.path(arrival.name), arrival.sha256, arrival.size)
    inbox.put_back(unknown.path(name), arrival.name)
    (recorded,) = record_instances(
        custody.ledger, [arrival], now=time.time(), exists=lambda _: stored.path.exists()
    )
    if recorded is Recorded.GONE:
        raise StorageError("An image left the inbox before it was recorded; try again.")
    if recorded in (Recorded.CONFLICT, Recorded.OTHER_STUDY):
        inbox.quarantine(stored)
    unknown.discard_image(name)
    return recorded


def read_arrival(path: Path, name: str, *, source_ae: str) -> Arrival:
    """Read the ledger's record of an image from its stored file.

    Args:
        path: The file.
        name: Its name in the inbox, which holds the hashes that it must have.
        source_ae: AE title of the sender.

    Raises:
        UnreadableFile: It is damaged, or not the image that its name states.
        StorageError: It cannot be read.
    """
    with disk_faults(path.parent), path.open("rb") as file:
        size = path.stat().st_size
        if size <= META_START_BYTES:
            raise UnreadableFile(f"{path.name} is cut off.")
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapped:
            (length,) = struct.unpack_from("<I", mapped, META_START_BYTES - 4)
            begin = META_START_BYTES + length
            if begin >= size:
                raise UnreadableFile(f"{path.name} is cut off.")
            with memoryview(mapped) as whole, whole[begin:] as data:
                sha256 = hashlib.sha256(data).hexdigest()
                header = read_header(HeaderWalk(_transfer_syntax(path)), data)
    expected = inbox_name(header.series_uid, header.sop_instance_uid, sha256)
    if Path(name).name.split(".")[0] != Path(expected).stem:
        raise UnreadableFile(f"{path.name} does not hold the image that its name states.")
    return Arrival(
        series_uid=header.series_uid,
        study_uid=header.study_uid,
        sop_uid=header.sop_instance_uid,
        sha256=sha256,
        name=expected,
        size=size,
        source_ae=source_ae,
    )


def _transfer_syntax(path: Path) -> str:
    try:
        return str(read_file_meta_info(path).TransferSyntaxUID)
    except Exception as error:
        raise UnreadableFile(f"{path.name} has no File Meta Information.") from error

"""Audit messages and counters of one transfer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydicom import dcmread

from dicom_node import telemetry
from dicom_node.audit import Audit, Peer
from dicom_node.sending.outcome import SendResult
from dicom_node.settings import PeerSettings, WebPeerSettings


@dataclass(frozen=True)
class _Content:
    study_uid: str
    patient_id: str
    sop_class_uid: str


@contextmanager
def audited_transfer(
    audit: Audit | None,
    peer: PeerSettings | WebPeerSettings,
    files: Sequence[Path],
    results: Sequence[SendResult],
) -> Iterator[None]:
    """Audit the begin and the end of a transfer of images (PS3.15, A.5.3.3 and A.5.3.7).

    Args:
        audit: The audit trail; None: no messages.
        peer: Destination of the images.
        files: Images of one series.
        results: Filled within the block.
    """
    if audit is None or not audit.is_enabled or not files:
        yield
        return
    content = _content(files[0])
    transfer = audit.outgoing(_participant(peer))
    transfer.begin(**vars(content), images=len(files))
    failure = "broken off"
    try:
        yield
        failure = "" if all(result.ok for result in results) else "images not stored"
    finally:
        arrived = sum(result.ok for result in results)
        if arrived:
            transfer.add(**vars(content), images=arrived)
        transfer.end(failure)


def count(destination: str, result: SendResult) -> None:
    """Count an image that was sent."""
    try:
        size = result.path.stat().st_size
    except OSError:  # it was there a moment ago; the count matters less than the image
        size = 0
    telemetry.image_sent(destination, result.ok, size)


def _participant(peer: PeerSettings | WebPeerSettings) -> Peer:
    if isinstance(peer, PeerSettings):
        return Peer(peer.ae_title, peer.host)
    return Peer("", urlsplit(peer.url).hostname or "")


def _content(path: Path) -> _Content:
    header = dcmread(path, specific_tags=["StudyInstanceUID", "PatientID", "SOPClassUID"])
    return _Content(
        str(header.get("StudyInstanceUID", "")),
        str(header.get("PatientID", "")),
        str(header.get("SOPClassUID", "")),
    )

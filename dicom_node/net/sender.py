"""Storage and Verification SCU: sends files to a peer, one status for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.errors import PeerError, UnreadableFile
from dicom_node.net.association import associate, storage_contexts
from dicom_node.net.peers import Peer, describe

SUCCESS = 0x0000
DUPLICATE_INSTANCE = 0x0111
"""The peer has this SOP instance already (PS3.7, C.5.12): what was to be reached is reached."""

NO_CONTEXT = 0x0122
"""SOP class not supported; also used here when the peer accepted no fitting transfer syntax."""

_WARNINGS = range(0xB000, 0xC000)
_PROCESSING_FAILURE = 0x0110
_OUT_OF_RESOURCES = range(0xA700, 0xA800)

_MEANINGS: tuple[tuple[range, str], ...] = (
    (_OUT_OF_RESOURCES, "the peer is out of resources"),
    (range(0xA900, 0xAA00), "the data set does not match its SOP class"),
    (range(0xC000, 0xD000), "the peer cannot understand the data set"),
    (range(_PROCESSING_FAILURE, _PROCESSING_FAILURE + 1), "the peer failed in processing"),
    (
        range(NO_CONTEXT, NO_CONTEXT + 1),
        "the peer does not accept this SOP class or transfer syntax",
    ),
    (range(0x0124, 0x0125), "the peer does not authorise this node to store"),
)


@dataclass(frozen=True)
class SendResult:
    """What became of one file.

    Attributes:
        path: The file.
        sop_instance_uid: Its SOP Instance UID.
        status: DIMSE status (PS3.4, table B.2-1); None when no answer came.
    """

    path: Path
    sop_instance_uid: str
    status: int | None

    @property
    def ok(self) -> bool:
        """Whether the peer has the instance: success, a warning, or it had it before."""
        return self.status in (SUCCESS, DUPLICATE_INSTANCE) or self.status in _WARNINGS

    @property
    def transient(self) -> bool:
        """Whether sending the same file later can succeed."""
        return (
            self.status is None
            or self.status == _PROCESSING_FAILURE
            or self.status in _OUT_OF_RESOURCES
        )

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        if self.ok:
            return "stored"
        if self.status is None:
            return "the peer gave no answer"
        meaning = next(
            (text for codes, text in _MEANINGS if self.status in codes), "the peer refused it"
        )
        return f"{meaning} (status 0x{self.status:04X})"


@dataclass(frozen=True)
class _Outgoing:
    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str


def echo(peer: Peer, *, calling_ae: str) -> float:
    """Ask a peer whether it is there (C-ECHO).

    Returns:
        Seconds for the whole association.

    Raises:
        PeerError: It cannot be reached, refuses, or does not answer with success.
    """
    begin = time.perf_counter()
    with associate(peer, [build_context(Verification)], calling_ae=calling_ae) as association:
        answer = association.send_c_echo()
        if getattr(answer, "Status", None) != SUCCESS:
            raise PeerError(f"{describe(peer)} did not answer the C-ECHO.", transient=True)
    return time.perf_counter() - begin


def send_files(
    peer: Peer,
    files: Sequence[Path],
    *,
    calling_ae: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[SendResult]:
    """Send files over one association (C-STORE).

    Args:
        peer: Where to.
        files: DICOM files; each goes in its own transfer syntax, or in Implicit VR Little Endian
            where the peer takes nothing else.
        calling_ae: This node's AE title.
        on_progress: Told (done, total) after each file.

    Returns:
        One result a file, in order. When the association breaks off, the files after it have no
        status and may be sent again: the same SOP Instance UID never makes a second copy.

    Raises:
        PeerError: No association could be made.
        UnreadableFile: A file is not DICOM.
    """
    outgoing = [_describe_file(path) for path in files]
    if not outgoing:
        return []
    contexts = storage_contexts((item.sop_class_uid, item.transfer_syntax) for item in outgoing)
    results: list[SendResult] = []
    with associate(peer, contexts, calling_ae=calling_ae) as association:
        for result in _send_each(association, outgoing):
            results.append(result)
            if on_progress is not None:
                on_progress(len(results), len(outgoing))
    return results


def _send_each(association: Association, outgoing: list[_Outgoing]) -> Iterator[SendResult]:
    usable = True
    for item in outgoing:
        status = _store(association, item) if usable else None
        # No answer means that the association has ended, though pynetdicom may not know it yet.
        usable = status is not None and association.is_established
        yield SendResult(item.path, item.sop_instance_uid, status)


def _store(association: Association, item: _Outgoing) -> int | None:
    as_it_is = any(
        context.abstract_syntax == item.sop_class_uid
        and context.transfer_syntax[0] == item.transfer_syntax
        for context in association.accepted_contexts
    )
    try:
        answer = association.send_c_store(item.path if as_it_is else dcmread(item.path))
    except ValueError:  # no accepted context fits
        return NO_CONTEXT
    except RuntimeError:  # the association ended between the check and the call
        return None
    status: int | None = getattr(answer, "Status", None)
    return status


def _describe_file(path: Path) -> _Outgoing:
    try:
        meta = read_file_meta_info(path)
        return _Outgoing(
            path=path,
            sop_class_uid=meta.MediaStorageSOPClassUID,
            sop_instance_uid=meta.MediaStorageSOPInstanceUID,
            transfer_syntax=meta.TransferSyntaxUID,
        )
    except (OSError, InvalidDicomError, AttributeError, EOFError, ValueError) as error:
        raise UnreadableFile(
            f"{path.name} cannot be sent: it is not a DICOM file with a complete file header."
        ) from error

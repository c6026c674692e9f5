"""Storage SCU: images to one peer over one association, which is reopened when it breaks."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.dimse.association import Association, associate
from dicom_node.dimse.command import C_STORE_RQ, Command
from dicom_node.dimse.connection import ConnectionLost
from dicom_node.dimse.peer import Peer, describe
from dicom_node.dimse.proposal import storage_contexts
from dicom_node.dimse.status import SOP_CLASS_NOT_SUPPORTED
from dicom_node.errors import PeerError
from dicom_node.logs import get_logger
from dicom_node.sending.commitment import OnReport, ask_commitment, commitment_context
from dicom_node.sending.outcome import SendResult
from dicom_node.sending.outgoing import OutgoingFile, describe_file, kinds

log = get_logger(__name__)

ATTEMPTS_PER_IMAGE = 2
"""A broken association loses the response to one image, which is sent again on a new one."""

MAX_LOSSES = 2
"""Images in a row without a response after which the fault is the peer's, not the images'."""

_MEDIUM_PRIORITY = 0x0000


def _never() -> bool:
    return False


class StorageSession:
    """Sends files to a peer; use it as a context manager.

    Args:
        peer: Destination.
        files: Files to send; each in its own transfer syntax, or in Implicit VR Little Endian where
            the peer accepts nothing else.
        calling_ae: This node's AE title.
        tls: TLS context; None for a plain connection.
        commitment: Also propose storage commitment, for :meth:`ask_commitment`.

    Raises:
        UnreadableFile: A file is not DICOM.
        PeerError: The files need more presentation contexts than one association has.
    """

    def __init__(
        self,
        peer: Peer,
        files: Sequence[Path],
        *,
        calling_ae: str,
        tls: ssl.SSLContext | None = None,
        commitment: bool = False,
    ) -> None:
        self._peer, self._calling_ae, self._tls = peer, calling_ae, tls
        self._files = [describe_file(path) for path in files]
        self._contexts = storage_contexts(kinds(self._files))
        if commitment:
            self._contexts.append(commitment_context())
        self._stack = ExitStack()
        self._association: Association | None = None
        self._losses = 0
        self._lost: ConnectionLost | None = None
        self._should_stop = _never

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def send(self, should_stop: Callable[[], bool] = _never) -> Iterator[SendResult]:
        """Send the files in order, one result each; end early when asked to stop.

        An image without a response has no status and may be sent again: the same SOP Instance UID
        never makes a second copy. A peer that has stopped answering is not tried any further.

        Raises:
            PeerError: The first association could not be made.
        """
        self._should_stop = should_stop
        for file in self._files:
            if should_stop():
                return
            try:
                result = self._send(file)
            except PeerError:
                if should_stop():  # aborted for that reason
                    return
                raise
            if result.status is None and should_stop():
                return  # the image will be sent again
            yield result

    def ask_commitment(
        self,
        transaction_uid: str,
        files: Sequence[Path],
        *,
        on_report: OnReport,
        wait_seconds: float,
    ) -> None:
        """Request commitment to instances, on the association over which they were sent.

        Args:
            transaction_uid: Transaction UID of the report to come.
            files: The instances.
            on_report: Called with a report that arrives on this association.
            wait_seconds: Time to wait here; the report may arrive later on another association.

        Raises:
            PeerError: The peer cannot be reached or does not accept the request.
            UnreadableFile: A file is not DICOM.
        """
        described = [describe_file(path) for path in files]
        items = [(file.sop_class_uid, file.sop_instance_uid) for file in described]
        try:
            ask_commitment(
                self._associated(),
                self._peer,
                transaction_uid,
                items,
                on_report=on_report,
                wait_seconds=wait_seconds,
            )
        except ConnectionLost as error:
            raise PeerError(
                f"{describe(self._peer)} {error} when asked for storage commitment.",
                transient=True,
                counted=not error.silent,
            ) from error

    def _associated(self) -> Association:
        """The association in use, or a new one.

        Raises:
            PeerError: No association could be made.
        """
        if self._association is None or self._association.ended:
            self._stack.close()
            asked = associate(
                self._peer,
                self._contexts,
                calling_ae=self._calling_ae,
                tls=self._tls,
                should_stop=self._should_stop,
            )
            self._association = self._stack.enter_context(asked)
        return self._association

    def _send(self, file: OutgoingFile) -> SendResult:
        if self._losses >= MAX_LOSSES:
            return self._unanswered(file)
        for _ in range(ATTEMPTS_PER_IMAGE):
            first = self._association is None
            try:
                status = _store(self._associated(), file)
            except ConnectionLost as lost:
                self._note_loss(lost)
                if lost.silent:  # another minute for each image would not help
                    self._losses = MAX_LOSSES
                    return self._unanswered(file)
            except PeerError:
                if first:
                    raise
                self._lost = ConnectionLost(_UNREACHABLE_AGAIN, silent=True)
                self._losses = MAX_LOSSES
                return self._unanswered(file)
            else:
                self._losses = 0
                return SendResult(file.path, file.sop_instance_uid, status)
        self._losses += 1
        return self._unanswered(file)

    def _unanswered(self, file: OutgoingFile) -> SendResult:
        words, silent = (str(self._lost), self._lost.silent) if self._lost else ("", False)
        return SendResult(file.path, file.sop_instance_uid, None, words, silent)

    def _note_loss(self, lost: ConnectionLost) -> None:
        self._lost = lost
        agreement = self._association.agreement if self._association is not None else None
        log.warning(
            "association broke",
            peer=self._peer.name,
            reason=str(lost),
            accepted=agreement.accepted if agreement else (),
            refused=agreement.refused if agreement else (),
        )


_UNREACHABLE_AGAIN = "broke off the association and cannot be reached again"


def _store(association: Association, file: OutgoingFile) -> int | None:
    context = association.context(file.sop_class_uid, file.transfer_syntax)
    if context is not None:
        data_set: bytes | memoryview = file.data_set()
    else:
        context = association.context(file.sop_class_uid, ImplicitVRLittleEndian)
        if context is None:
            return SOP_CLASS_NOT_SUPPORTED  # the peer accepted no fitting transfer syntax
        data_set = file.data_set_as_implicit()
    request = Command(
        field=C_STORE_RQ,
        affected_class=file.sop_class_uid,
        affected_instance=file.sop_instance_uid,
        priority=_MEDIUM_PRIORITY,
    )
    return association.request(context, request, data_set).status

"""Intake of one C-STORE request: write, check, record in the ledger, and only then answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]

from dicom_node import telemetry
from dicom_node.audit import Transfer
from dicom_node.dimse.acceptor_connection import INVALID_PARAMETER, Violation
from dicom_node.dimse.command import Command
from dicom_node.dimse.proposal import AcceptedContext
from dicom_node.dimse.services import Caller
from dicom_node.dimse.status import (
    CANNOT_UNDERSTAND,
    DATA_SET_MISMATCH,
    OUT_OF_RESOURCES,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    status_text,
)
from dicom_node.encoding.actual_syntax import actual_syntax
from dicom_node.encoding.elements import MULTI_FRAME, SINGLE_FRAME
from dicom_node.encoding.file_meta import file_meta
from dicom_node.encoding.uid import is_conformant_uid, is_usable_uid
from dicom_node.errors import InputError, UnreadableFile
from dicom_node.ledger.arrivals import Arrival, Recorded
from dicom_node.logs import get_logger, reason_of, short_hash
from dicom_node.receiving.header import (
    Header,
    HeaderWalk,
    WrongInstance,
    begin_walk,
    check_announced,
    instance_of,
    read_header,
)
from dicom_node.receiving.reception import Reception
from dicom_node.store.draft import Draft

log = get_logger(__name__)

ROOM_CHECK_BYTES = 16 << 20
"""Bytes of a large image after which the free disk space is checked again."""

_OUTCOMES = {
    Recorded.NEW: "stored",
    Recorded.DUPLICATE: "duplicate",
    Recorded.CONFLICT: "quarantined",
}


class Intake:
    """One image being received; after a fault the rest is skipped and the answer gives the reason.

    Args:
        reception: Storage for the image.
        caller: The peer that sends it.
        context: Presentation context of the request.
        command: The request.
        transfer: Audit record of the image once it is stored.
        remarks: Warnings already logged on this association; each is logged once.

    Attributes:
        header: Header of the image, once it is stored.
        comment: Error Comment for the sender; empty where the reason is internal to this node.
    """

    def __init__(
        self,
        reception: Reception,
        caller: Caller,
        context: AcceptedContext,
        command: Command,
        transfer: Transfer,
        remarks: set[str],
    ) -> None:
        self._reception, self._caller, self._command = reception, caller, command
        self._transfer, self._remarks = transfer, remarks
        self._syntax, self._received = context.transfer_syntax, 0
        self._bounds = SINGLE_FRAME if context.sop_class == CTImageStorage else MULTI_FRAME
        self._walk = HeaderWalk(self._syntax, self._bounds)
        self._draft: Draft | None = None
        self._status, self.comment = SUCCESS, ""
        self._next_check = 0
        self.header: Header | None = None
        with self._answering():
            self._begin(context)

    @property
    def is_kept(self) -> bool:
        """Whether it is being written, and was not refused so far."""
        return self._draft is not None

    def write(self, fragment: memoryview) -> None:
        """Write the next bytes of the data set.

        Raises:
            Violation: The data set is far longer than allowed.
        """
        self._received += len(fragment)
        if self._received > 2 * self._reception.max_image_bytes:
            raise Violation("sent a data set without end", INVALID_PARAMETER)
        if self._status != SUCCESS or not fragment:
            return
        with self._answering():
            self._check_length()
            if self._draft is None:
                self._draft = self._open(fragment)
            if self._draft.size > self._next_check:
                self._reception.admission.check_room()
                self._next_check += ROOM_CHECK_BYTES
            self._draft.write(fragment)

    def finish(self) -> int:
        """Check and store the image.

        Returns:
            Status to answer with; success only when it is in the inbox and the ledger.
        """
        with self._answering():
            if self._draft is None and self._status == SUCCESS:
                raise UnreadableFile("The data set is empty.")
            if self._draft is not None:
                telemetry.image_received(_OUTCOMES[self._keep(self._draft)], self._draft.size)
        self.discard()
        return self._status

    def discard(self) -> None:
        """Delete the file of an image that is not stored; repeated calls do nothing."""
        if self._draft is not None:
            self._draft.discard()
            self._draft = None

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn an exception into the status that the sender gets."""
        try:
            yield
        except UnreadableFile as error:
            self._refuse(CANNOT_UNDERSTAND, str(error), comment=str(error))
        except OtherStudy as error:
            self._refuse(CANNOT_UNDERSTAND, str(error), comment=OtherStudy.COMMENT)
        except WrongInstance as error:
            self._refuse(DATA_SET_MISMATCH, str(error), comment=str(error))
        except _WrongContext as error:
            self._refuse(SOP_CLASS_NOT_SUPPORTED, str(error), comment=str(error))
        except Exception as error:
            # Whatever is wrong, the sender must learn that the image is not stored; it can retry.
            self._refuse(OUT_OF_RESOURCES, reason_of(error))

    def _refuse(self, status: int, reason: str, comment: str = "") -> None:
        log.warning(
            "image refused",
            status=status_text(status),
            reason=reason,
            calling=self._caller.ae_title,
        )
        telemetry.image_refused(status)
        self._status, self.comment = status, comment
        self.discard()

    def _begin(self, context: AcceptedContext) -> None:
        command = self._command
        if command.affected_class != context.sop_class:
            raise _WrongContext("The request names another SOP class than its context.")
        if not command.has_data_set:
            raise UnreadableFile("The request has no data set.")
        if not is_usable_uid(command.affected_instance.removesuffix(".")):
            raise UnreadableFile("The request has no usable SOP Instance UID.")
        self._reception.verify()
        self._reception.admission.check_room()

    def _check_length(self) -> None:
        limit = self._reception.max_image_bytes
        if self._received > limit:
            raise UnreadableFile(f"The data set is over accept.max_image_mib: {limit >> 20} MiB.")

    def _open(self, fragment: memoryview) -> Draft:
        """Begin the file, with the transfer syntax in which the data set is really encoded."""
        syntax = actual_syntax(self._syntax, fragment)
        if syntax != self._syntax:
            self._remark("the data set is not in the transfer syntax that was negotiated")
            self._syntax, self._walk = syntax, HeaderWalk(syntax, self._bounds)
        begin_walk(self._walk, fragment)
        instance = instance_of(self._walk, self._command.affected_instance)
        meta = file_meta(self._command.affected_class, instance, syntax)
        return self._reception.inbox.begin(meta)

    def _remark(self, what: str) -> None:
        """Warn, once per association, of a broken rule that does not prevent storing."""
        if what not in self._remarks:
            self._remarks.add(what)
            log.warning("image taken with a fault", calling=self._caller.ae_title, reason=what)

    def _keep(self, draft: Draft) -> Recorded:
        header = read_header(self._walk, draft.data_set())
        check_announced(
            header,
            sop_class_uid=self._command.affected_class,
            sop_instance_uid=self._command.affected_instance,
        )
        if not all(
            map(is_conformant_uid, (header.study_uid, header.series_uid, header.sop_instance_uid))
        ):
            self._remark("a UID breaks the rules of PS3.5, 9.1")
        inbox = self._reception.inbox
        stored = inbox.keep(draft, series_uid=header.series_uid, sop_uid=header.sop_instance_uid)
        arrival = Arrival(
            series_uid=header.series_uid,
            study_uid=header.study_uid,
            sop_uid=header.sop_instance_uid,
            sha256=stored.sha256,
            name=stored.name,
            size=stored.size,
            source_ae=self._caller.ae_title,
        )
        recorded = self._reception.group_commit.enter(arrival, stored)
        if recorded is Recorded.OTHER_STUDY:
            inbox.discard(stored)
            raise OtherStudy(header.series_uid)
        self._transfer.add(
            study_uid=header.study_uid,
            patient_id=header.patient_id,
            sop_class_uid=header.sop_class_uid,
            held=recorded is Recorded.DUPLICATE,
        )
        if recorded is Recorded.CONFLICT:
            # The first version stays in use; the other is quarantined for a person to look at.
            inbox.quarantine(stored)
            log.warning(
                "another image came under a known UID", series=short_hash(header.series_uid)
            )
        self.header = header
        return recorded


class OtherStudy(InputError):  # noqa: N818 - the name says where the series is known
    """The series of an image is known here as part of another study."""

    COMMENT: Final = "This Series UID is known here in another study: not stored."
    """Error Comment (VR LO, at most 64 characters)."""

    def __init__(self, series_uid: str) -> None:
        super().__init__(
            f"Series {short_hash(series_uid)} is known here in another study than this image names,"
            " so the image is not kept; give the series in that study a Series UID of its own."
        )


class _WrongContext(Exception):  # noqa: N818 - the name says what was asked
    """The request is of another SOP class than its presentation context."""

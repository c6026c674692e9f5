"""Outcome of sending: of each image, and the error that follows when not all were stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.dimse.status import (
    CANNOT_UNDERSTAND_RANGE,
    DATA_SET_MISMATCH_RANGE,
    DUPLICATE_SOP_INSTANCE,
    NOT_AUTHORIZED,
    OUT_OF_RESOURCES_RANGE,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    WARNING_RANGE,
    status_text,
)
from dicom_node.errors import NodeError, PeerError

_STORED = frozenset((SUCCESS, DUPLICATE_SOP_INSTANCE, *WARNING_RANGE))
"""The peer has the instance: now, or already before (PS3.7, C.5.12)."""

_AWAY = frozenset((RESOURCE_LIMITATION, *OUT_OF_RESOURCES_RANGE))
_TRANSIENT = _AWAY | {PROCESSING_FAILURE}

_MEANINGS: dict[int, str] = {
    **dict.fromkeys(_AWAY, "the peer is out of resources"),
    **dict.fromkeys(DATA_SET_MISMATCH_RANGE, "the data set does not match its SOP class"),
    **dict.fromkeys(CANNOT_UNDERSTAND_RANGE, "the peer cannot understand the data set"),
    PROCESSING_FAILURE: "the peer failed in processing",
    SOP_CLASS_NOT_SUPPORTED: "the peer does not accept this SOP class or transfer syntax",
    NOT_AUTHORIZED: "the peer does not authorise this node to store",
}


@dataclass(frozen=True)
class SendResult:
    """Outcome of sending one file.

    Attributes:
        path: The file.
        sop_instance_uid: Its SOP Instance UID.
        status: DIMSE status (PS3.4, table B.2-1); None when the peer sent none.
        words: Reason for a missing status: what the peer did instead, as a clause.
        silent: Whether a status is missing because the peer stopped answering or is unreachable.
    """

    path: Path
    sop_instance_uid: str
    status: int | None
    words: str = ""
    silent: bool = False

    @property
    def ok(self) -> bool:
        """Whether the peer has the instance now."""
        return self.status in _STORED

    @property
    def transient(self) -> bool:
        """Whether sending the same file later can succeed."""
        return self.status is None or self.status in _TRANSIENT

    @property
    def away(self) -> bool:
        """Whether the peer stores nothing at present, by its status or its silence."""
        return self.silent if self.status is None else self.status in _AWAY

    @property
    def sentence(self) -> str:
        """The outcome in words."""
        if self.ok:
            return "stored"
        if self.status is None:
            return f"the peer {self.words}" if self.words else "the peer gave no answer"
        meaning = _MEANINGS.get(self.status, "the peer refused it")
        return f"{meaning} (status {status_text(self.status)})"


class NotStored(PeerError):  # noqa: N818 - the name says what happened
    """Images were refused or got no response.

    Attributes:
        some_stored: Whether the destination stored others, so that it is not away.
    """

    def __init__(
        self, message: str, *, transient: bool, counted: bool = False, some_stored: bool
    ) -> None:
        super().__init__(message, transient=transient, counted=counted)
        self.some_stored = some_stored


def not_stored(destination: str, results: Sequence[SendResult]) -> NotStored:
    """The error of an attempt in which not every image was stored.

    Waiting does not cure a permanent refusal of one image. If a peer that answers
    stores none, the attempt counts; if it stores some, there is progress and it does not.
    """
    refused = [result for result in results if not result.ok]
    permanent = [result for result in refused if not result.transient]
    worst = (permanent or refused)[0]
    some_stored = len(refused) < len(results)
    return NotStored(
        f"{destination}: {len(refused)} of {len(results)} images not stored, {worst.sentence}.",
        transient=worst.transient,
        counted=not permanent and not some_stored and not all(item.away for item in refused),
        some_stored=some_stored,
    )


def is_absence(error: Exception) -> bool:
    """Whether an error means that the destination (or this node's disk) is away for any delivery.

    A peer that can be reached and breaks off associations, or sends no valid answer, is not away.
    """
    if isinstance(error, NotStored) and error.some_stored:
        return False
    return isinstance(error, NodeError) and error.transient and not error.counted

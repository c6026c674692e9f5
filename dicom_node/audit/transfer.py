"""Record of one transfer of instances, with one message for each patient and study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from dicom_node.audit.message import (
    BEGIN_TRANSFERRING,
    INSTANCES_TRANSFERRED,
    Action,
    Code,
)


@dataclass(frozen=True)
class Content:
    """Scope of one message: one patient (A.5.3.7) and one study."""

    study_uid: str
    patient_id: str


class WriteTransfer(Protocol):
    """Function that writes a message about a transfer."""

    def __call__(
        self,
        event: Code,
        action: Action,
        content: Content,
        instances: Mapping[str, int],
        failure: str,
        /,
    ) -> None:
        """Write the message, with the number of instances by SOP class."""


Counts = Counter[str]
"""Number of instances by SOP class."""


class Transfer:
    """Counts the instances of one transfer and writes the messages at its end; made by `Audit`.

    Args:
        write: Writer of the messages; None without a destination.
        fresh: Action for images that are new to the receiver, as far as is known.
    """

    def __init__(self, write: WriteTransfer | None, *, fresh: Action) -> None:
        self._write, self._fresh = write, fresh
        self._arrived: dict[tuple[Content, Action], Counts] = {}
        self._announced: dict[Content, Counts] = {}

    def begin(self, *, study_uid: str, patient_id: str, sop_class_uid: str, images: int) -> None:
        """Write that images will be sent (A.5.3.3)."""
        if self._write is not None:
            content, counts = Content(study_uid, patient_id), Counter({sop_class_uid: images})
            self._announced.setdefault(content, Counter()).update(counts)
            self._write(BEGIN_TRANSFERRING, Action.EXECUTE, content, counts, "")

    def add(
        self,
        *,
        study_uid: str,
        patient_id: str,
        sop_class_uid: str,
        held: bool = False,
        images: int = 1,
    ) -> None:
        """Count images that have arrived.

        Args:
            study_uid: Study Instance UID.
            patient_id: Patient ID as in the header.
            sop_class_uid: SOP Class UID.
            held: Whether the receiver already had the same bytes.
            images: Number of images.
        """
        if self._write is not None:
            action = Action.READ if held else self._fresh
            key = Content(study_uid, patient_id), action
            self._arrived.setdefault(key, Counter())[sop_class_uid] += images

    def end(self, failure: str = "") -> None:
        """Write what has arrived (A.5.3.7), one message for each patient, study and action.

        A failure has its own message (A.5.2), with the images that were announced and have not
        arrived.

        Args:
            failure: Why the transfer ended early; empty for a complete transfer.
        """
        if self._write is None:
            return
        missing = {content: Counter(counts) for content, counts in self._announced.items()}
        for (content, action), counts in self._arrived.items():
            self._write(INSTANCES_TRANSFERRED, action, content, counts, "")
            missing.setdefault(content, Counter()).subtract(counts)
        for content, counts in missing.items() if failure else ():
            self._write(INSTANCES_TRANSFERRED, self._fresh, content, +counts, failure)
        self._arrived, self._announced = {}, {}

"""What goes over one association, told once for each patient and study."""

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
    """What one message may be about: one patient (A.5.3.7) and one study."""

    study_uid: str
    patient_id: str


class Tell(Protocol):
    """Writes a message about a transfer."""

    def __call__(
        self,
        event: Code,
        action: Action,
        content: Content,
        instances: Mapping[str, int],
        failure: str,
        /,
    ) -> None:
        """Write it, with the number of instances by SOP class."""


Counts = Counter[str]
"""Instances by SOP class."""


class Transfer:
    """Counts what goes over one association, and tells it once when it ends; made by `Audit`.

    Args:
        tell: Writes a message; None when nobody listens.
        fresh: The action of images that the receiver had not before, as far as is known.
    """

    def __init__(self, tell: Tell | None, *, fresh: Action) -> None:
        self._tell, self._fresh = tell, fresh
        self._arrived: dict[tuple[Content, Action], Counts] = {}
        self._announced: dict[Content, Counts] = {}

    def begin(self, *, study_uid: str, patient_id: str, sop_class_uid: str, images: int) -> None:
        """Say that images will be sent (A.5.3.3)."""
        if self._tell is not None:
            content, counts = Content(study_uid, patient_id), Counter({sop_class_uid: images})
            self._announced.setdefault(content, Counter()).update(counts)
            self._tell(BEGIN_TRANSFERRING, Action.EXECUTE, content, counts, "")

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
            study_uid: Their study.
            patient_id: Their patient, as the header says it.
            sop_class_uid: Their SOP class.
            held: Whether the receiver had the same bytes before.
            images: How many.
        """
        if self._tell is not None:
            action = Action.READ if held else self._fresh
            key = Content(study_uid, patient_id), action
            self._arrived.setdefault(key, Counter())[sop_class_uid] += images

    def end(self, failure: str = "") -> None:
        """Tell what has arrived (A.5.3.7), one message a patient, study and action.

        What failed has a message of its own (A.5.2), with the images that were announced and have
        not arrived.

        Args:
            failure: Why the transfer ended before its end; empty when it did not.
        """
        if self._tell is None:
            return
        missing = {content: Counter(counts) for content, counts in self._announced.items()}
        for (content, action), counts in self._arrived.items():
            self._tell(INSTANCES_TRANSFERRED, action, content, counts, "")
            missing.setdefault(content, Counter()).subtract(counts)
        for content, counts in missing.items() if failure else ():
            self._tell(INSTANCES_TRANSFERRED, self._fresh, content, +counts, failure)
        self._arrived, self._announced = {}, {}

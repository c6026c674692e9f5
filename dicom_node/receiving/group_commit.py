"""Group commit: one transaction records all images that wait, of whichever association.

Each association's thread writes its own image to disk. The first of them then synchronises the
folders and commits for all that wait by then; the others find their image recorded when it is their
turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from dicom_node.errors import StorageError
from dicom_node.ledger.arrivals import Arrival, Recorded, record_instances
from dicom_node.ledger.engine import Ledger
from dicom_node.store.durable import disk_faults, sync_folder
from dicom_node.store.inbox import Inbox, StoredFile


class _Entry:
    """An image that waits to be recorded, and the outcome."""

    def __init__(self, arrival: Arrival, stored: StoredFile) -> None:
        self.arrival, self.stored = arrival, stored
        self.outcome: Recorded | Exception | None = None


class GroupCommit:
    """Records images in the ledger, several in one transaction.

    Args:
        ledger: Ledger to record them in.
        inbox: Folder that holds their files.
    """

    def __init__(self, ledger: Ledger, inbox: Inbox) -> None:
        self._ledger, self._inbox = ledger, inbox
        self._waiting: list[_Entry] = []
        self._listed = threading.Lock()
        self._turn = threading.Lock()

    def enter(self, arrival: Arrival, stored: StoredFile) -> Recorded:
        """Make an image's name durable and record it; returns when both survive a power cut.

        Raises:
            StorageError: The disk or the ledger cannot be written, or the file is missing.
        """
        entry = _Entry(arrival, stored)
        with self._listed:
            self._waiting.append(entry)
        with self._turn:
            if entry.outcome is None:
                self._commit(self._take_all())
        if isinstance(entry.outcome, Exception):
            raise entry.outcome
        if entry.outcome is Recorded.GONE:
            raise StorageError("An image left the inbox before it was recorded; send it again.")
        assert entry.outcome is not None
        return entry.outcome

    def _take_all(self) -> list[_Entry]:
        with self._listed:
            batch, self._waiting = self._waiting, []
        return batch

    def _commit(self, batch: Sequence[_Entry]) -> None:
        """Record a batch; on an unexpected error retry each image alone."""
        try:
            for folder in {entry.stored.path.parent for entry in batch}:
                with disk_faults(folder):
                    sync_folder(folder)
            outcomes = record_instances(
                self._ledger,
                [entry.arrival for entry in batch],
                now=time.time(),
                exists=lambda arrival: self._inbox.path(arrival.name).exists(),
            )
        except Exception as error:
            if len(batch) == 1 or isinstance(error, StorageError):
                for entry in batch:
                    entry.outcome = error
                return
            for entry in batch:
                self._commit([entry])
            return
        for entry, outcome in zip(batch, outcomes, strict=True):
            entry.outcome = outcome

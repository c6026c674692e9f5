"""Group commit: one transaction enters all images that wait, whichever association brought them.

Each association's thread brings its image as far as the disk by itself. Whoever then comes first
synchronises the folders and commits for everybody who waits by then; the others find their image
entered when it is their turn.
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
    """An image that waits to be entered, and what became of it."""

    def __init__(self, arrival: Arrival, stored: StoredFile) -> None:
        self.arrival, self.stored = arrival, stored
        self.outcome: Recorded | Exception | None = None


class GroupCommit:
    """Enters images in the ledger.

    Args:
        ledger: Where they are entered.
        inbox: Where they lie.
    """

    def __init__(self, ledger: Ledger, inbox: Inbox) -> None:
        self._ledger, self._inbox = ledger, inbox
        self._waiting: list[_Entry] = []
        self._listed = threading.Lock()
        self._turn = threading.Lock()

    def enter(self, arrival: Arrival, stored: StoredFile) -> Recorded:
        """Make an image's name durable and enter it; returns when both survive a power cut.

        Raises:
            StorageError: The disk or the ledger cannot be written, or the file has gone.
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
            raise StorageError("an image left the inbox before it was entered; send it again.")
        assert entry.outcome is not None
        return entry.outcome

    def _take_all(self) -> list[_Entry]:
        with self._listed:
            batch, self._waiting = self._waiting, []
        return batch

    def _commit(self, batch: Sequence[_Entry]) -> None:
        """Enter a batch; what fails for all is tried for each, so that one harms no other."""
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

"""Reception: where all associations of a receiver keep the images that they bring."""

from __future__ import annotations

from collections.abc import Callable

from dicom_node.ledger.engine import Ledger
from dicom_node.receiving.admission import Admission
from dicom_node.receiving.group_commit import GroupCommit
from dicom_node.settings import Settings
from dicom_node.store.inbox import Inbox


class Reception:
    """Inbox, ledger and limits that every image received goes through.

    Args:
        settings: Folders, the largest image, and how much disk must stay free.
        ledger: Where images are recorded.
        verify: Raises a ``StorageError`` while ledger and storage do not belong together.
    """

    def __init__(
        self, settings: Settings, ledger: Ledger, *, verify: Callable[[], None] = lambda: None
    ) -> None:
        self.verify = verify
        self.admission = Admission(settings)
        self.max_image_bytes = settings.accept.max_image_mib << 20
        self.inbox = Inbox(settings.inbox_folder, settings.quarantine_folder)
        self.group_commit = GroupCommit(ledger, self.inbox)

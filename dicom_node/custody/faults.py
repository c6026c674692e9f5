"""What keeps a storage folder from doing its service, for health check, status and ``check``."""

from __future__ import annotations

import os
from collections.abc import Iterator

from dicom_node.custody.identity import Custody
from dicom_node.settings import Settings


def custody_faults(custody: Custody | None, settings: Settings) -> tuple[str, ...]:
    """What is wrong between ledger and storage, a sentence each; empty when nothing is.

    Args:
        custody: None when it is known already that the ledger cannot be read.
        settings: Where the folders are.
    """
    fault = custody.fault() if custody is not None else ""
    return (*([fault] if fault else ()), *_unwritable(settings))


def _unwritable(settings: Settings) -> Iterator[str]:
    """A file system that was mounted read-only, as after a fault of its disk, or a wrong owner."""
    folders = (settings.storage, settings.inbox_folder, settings.outbox_folder)
    for folder in folders:
        if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            yield (
                f"{folder} cannot be written: images are refused; see whether its disk is mounted"
                " read-only or has another owner."
            )
            return

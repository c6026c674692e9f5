"""Faults of custody, for the health check, the status display and ``check``."""

from __future__ import annotations

import os
from collections.abc import Iterator

from dicom_node.custody.identity import Custody
from dicom_node.settings import Settings


def custody_faults(custody: Custody | None, settings: Settings) -> tuple[str, ...]:
    """Return messages about faults between ledger and storage; empty for none.

    Args:
        custody: None when the ledger is known to be unreadable.
        settings: Paths of the folders.
    """
    fault = custody.fault() if custody is not None else ""
    return (*([fault] if fault else ()), *_unwritable(settings))


def _unwritable(settings: Settings) -> Iterator[str]:
    """Report a file system mounted read-only, as after a disk fault, or a wrong owner."""
    folders = (settings.storage, settings.inbox_folder, settings.outbox_folder)
    for folder in folders:
        if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            yield (
                f"{folder} cannot be written: images are refused; see whether its disk is mounted"
                " read-only or has another owner."
            )
            return

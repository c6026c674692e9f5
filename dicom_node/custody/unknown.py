"""Setting aside of files that are in no ledger, instead of deleting them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from dicom_node.custody.identity import Custody
from dicom_node.ledger.arrivals import entered_names
from dicom_node.ledger.strays import stray_tokens, take_unentered
from dicom_node.settings import Settings
from dicom_node.store.inbox import Inbox
from dicom_node.store.outbox import Outbox
from dicom_node.store.unknown import Unknown

UNKNOWN_SECONDS = 3600.0
"""Age after which an image that is in no ledger has lost its receiver, or its ledger."""


@dataclass(frozen=True)
class SetAside:
    """Numbers of images and results that were moved to ``unknown``."""

    images: int
    results: int


def set_aside_unknown(custody: Custody, settings: Settings, *, before: float) -> SetAside:
    """Move images and results that the storage's own ledger does not know to ``unknown``.

    Images that have since been sent again and entered are removed from ``unknown``.

    Args:
        custody: Ledger and storage, which must belong together.
        settings: Paths of the folders.
        before: Time in seconds since 1970; younger files may still be entered.

    Raises:
        StorageError: Ledger and storage do not belong together, or the disk is not writable.
    """
    custody.verify()
    inbox = Inbox(settings.inbox_folder, settings.quarantine_folder)
    unknown = Unknown(settings.unknown_folder)
    _drop_known(custody, inbox, unknown)
    images = 0
    for names in inbox.series_untouched_since(before):
        take = partial(_set_aside, inbox, unknown)
        images += len(take_unentered(custody.ledger, names, take))
    return SetAside(images, _set_aside_results(custody, settings, unknown, before))


def _set_aside(inbox: Inbox, unknown: Unknown, name: str) -> None:
    unknown.set_aside_image(inbox.path(name), name)


def _set_aside_results(
    custody: Custody, settings: Settings, unknown: Unknown, before: float
) -> int:
    outbox = Outbox(settings.outbox_folder)
    old = [token for token, made_at in outbox.made_at().items() if made_at < before]
    strays = stray_tokens(custody.ledger, old) if old else set()
    for token in sorted(strays):
        unknown.set_aside_result(outbox.root / token, token)
    return len(strays)


def _drop_known(custody: Custody, inbox: Inbox, unknown: Unknown) -> None:
    """Delete the copies of images that were sent again, whose bytes are in the inbox."""
    names = unknown.names()
    for name in sorted(entered_names(custody.ledger, names)) if names else ():
        if inbox.path(name).is_file():
            unknown.discard_image(name)

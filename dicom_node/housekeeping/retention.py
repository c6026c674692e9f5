"""What leaves the disk, and when: finished work by age, and what dead processes left behind."""

from __future__ import annotations

from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.operations import busy_tokens, closed_tokens
from dicom_node.ledger.series import purge_old_series
from dicom_node.logs import get_logger
from dicom_node.settings import Settings
from dicom_node.store.inbox import Inbox
from dicom_node.store.outbox import Outbox

log = get_logger(__name__)

SECONDS_PER_DAY = 86_400.0


class Retention:
    """Deletes what is old and owed to nobody.

    Args:
        ledger: The ledger.
        inbox: Received images.
        outbox: Derived images.
        settings: Ages.
    """

    def __init__(self, ledger: Ledger, inbox: Inbox, outbox: Outbox, settings: Settings) -> None:
        self._ledger, self._inbox, self._outbox = ledger, inbox, outbox
        self._settings = settings

    def enforce_retention(self, now: float) -> None:
        """Delete what is old and owed to nobody. Unsent and failed work stays, whatever its age."""
        before = now - self._settings.retention.days * SECONDS_PER_DAY
        purged = purge_old_series(
            self._ledger, before=before, now=now, remove=self._inbox.remove_series
        )
        closed = closed_tokens(self._ledger, before=before) & self._outbox.tokens()
        for token in closed:
            self._outbox.remove(token)
        if purged or closed:
            log.info("retention", series=len(purged), results=len(closed))

    def sweep_leftovers(self) -> None:
        """Delete what workers that died had half written."""
        swept = self._outbox.sweep_leftovers(lambda: busy_tokens(self._ledger))
        if swept:
            log.info("leftovers deleted", folders=swept)

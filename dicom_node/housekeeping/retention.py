"""Retention: deletion by age, by lack of disk space, and of leftovers of dead processes."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

from dicom_node.custody import UNKNOWN_SECONDS, Custody, set_aside_unknown
from dicom_node.ledger.operations import busy_tokens, closed_tokens
from dicom_node.ledger.purging import purge_old_series
from dicom_node.logs import get_logger
from dicom_node.settings import Settings
from dicom_node.store.disk import Usage, used_share
from dicom_node.store.inbox import Inbox
from dicom_node.store.leftovers import remove_old_files, sweep_parts
from dicom_node.store.outbox import Outbox
from dicom_node.store.unknown import Unknown

log = get_logger(__name__)

SECONDS_PER_DAY = 86_400.0


SERIES_PER_BATCH = 5
"""Series deleted under one lock of the ledger, before disk usage is checked again."""

REMIND_SECONDS = 3600.0
"""Interval of the log line about a disk that stays full."""


class Retention:
    """Deletes finished work; unsent and failed work stays, whatever its age.

    Args:
        custody: Ledger and storage; nothing is deleted while they do not belong together.
        inbox: Received images.
        outbox: Derived images.
        settings: Ages, watermark, folders.
        disk_usage: Function that returns the disk usage of a folder.
    """

    def __init__(
        self,
        custody: Custody,
        inbox: Inbox,
        outbox: Outbox,
        settings: Settings,
        *,
        disk_usage: Callable[[Path], Usage] = shutil.disk_usage,
    ) -> None:
        self._custody, self._ledger = custody, custody.ledger
        self._inbox, self._outbox = inbox, outbox
        self._unknown = Unknown(settings.unknown_folder)
        self._settings, self._limits = settings, settings.retention
        self._disk_usage = disk_usage
        self._logged_at: float | None = None

    def begin(self, now: float) -> None:
        """Clean up after an earlier run, or after the restore of a ledger from a backup.

        Raises:
            StorageError: Ledger and storage do not belong together, or the disk is not writable.
        """
        self._custody.verify()
        self._set_aside(now)
        self.sweep_leftovers()

    def enforce_retention(self, now: float) -> None:
        """Delete by age: finished series, results, reports, and files that were set aside.

        Raises:
            StorageError: Ledger and storage do not belong together, or the disk is not writable.
        """
        self._custody.verify()
        limits, before = self._limits, now - self._limits.days * SECONDS_PER_DAY
        series = len(self._purge(before, now))
        results = self._remove_results(before)
        reports_before = now - limits.report_days * SECONDS_PER_DAY
        reports = remove_old_files(self._settings.reports_folder, before=reports_before)
        remove_old_files(self._settings.crashes_folder, before=reports_before)
        aside = remove_old_files(
            self._settings.quarantine_folder, before=now - limits.quarantine_days * SECONDS_PER_DAY
        )
        if series or results or reports or aside:
            log.info("retention", series=series, results=results, reports=reports, quarantine=aside)
        self._set_aside(now)
        images, old = self._unknown.remove_old(before)
        if images or old:
            log.warning("unknown files deleted by age", images=images, results=old)
        self.sweep_leftovers()

    def relieve_disk(self, now: float) -> None:
        """Above the watermark, delete finished work early, oldest first.

        The order is: results that every destination has confirmed, as the PACS has them; images of
        finished series; results that are in no ledger, as they can be made again from their images,
        which stay for ``retention.days`` however full the disk is.

        Raises:
            StorageError: Ledger and storage do not belong together, or the disk is not writable.
        """
        self._custody.verify()
        if not self._is_tight():
            self._logged_at = None
            return
        results, series = self._remove_results(math.inf, while_tight=True), 0
        while self._is_tight() and (purged := self._purge(math.inf, now, limit=SERIES_PER_BATCH)):
            series += len(purged)
        unknown = self._discard_unknown_results()
        if results or series or unknown:
            counts = {"results": results, "series": series, "unknown_results": unknown}
            log.warning("disk relieved", used=self._used(), **counts)
        if self._is_tight():
            self._log_full_disk(now)

    def sweep_leftovers(self) -> None:
        """Delete incomplete files of dead workers."""
        swept = self._outbox.sweep_leftovers(lambda: busy_tokens(self._ledger))
        swept += sweep_parts(self._settings.reports_folder, lambda: busy_tokens(self._ledger))
        if swept:
            log.info("leftovers deleted", count=swept)

    def _purge(self, before: float, now: float, limit: int | None = None) -> list[str]:
        return purge_old_series(
            self._ledger, before=before, now=now, remove=self._inbox.remove_images, limit=limit
        )

    def _set_aside(self, now: float) -> None:
        """Set aside files that are in no ledger, for a person to decide."""
        aside = set_aside_unknown(self._custody, self._settings, before=now - UNKNOWN_SECONDS)
        if aside.images or aside.results:
            log.error(
                "files that no ledger knows",
                images=aside.images,
                results=aside.results,
                reason=f"they are kept in {self._unknown.root} for `retention.days`: see"
                " `dicom-node unknown list`.",
            )

    def _discard_unknown_results(self) -> int:
        discarded = 0
        for token in self._unknown.tokens():
            if not self._is_tight():
                break
            self._unknown.discard_result(token)
            discarded += 1
        return discarded

    def _remove_results(self, before: float, *, while_tight: bool = False) -> int:
        closed = closed_tokens(self._ledger, before=before)
        removed = 0
        for token in self._outbox.oldest_first():
            if while_tight and not self._is_tight():
                break
            if token in closed:
                self._outbox.remove(token)
                removed += 1
        return removed

    def _is_tight(self) -> bool:
        """Whether the disk is above the watermark or below its reserve."""
        usage = self._disk_usage(self._settings.storage)
        return (
            usage.free < self._limits.disk_reserve_bytes
            or used_share(usage) > self._limits.disk_high_watermark
        )

    def _used(self) -> str:
        return f"{used_share(self._disk_usage(self._settings.storage)):.0%}"

    def _log_full_disk(self, now: float) -> None:
        if self._logged_at is not None and now - self._logged_at < REMIND_SECONDS:
            return
        self._logged_at = now
        log.error(
            "disk full",
            used=self._used(),
            reason="the rest is unsent, failed or not the node's: see `dicom-node jobs list` and"
            " free some space.",
        )

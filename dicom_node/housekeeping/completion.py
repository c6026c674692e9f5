"""Which series are complete, and what becomes of each."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.jobs import Work, enqueue
from dicom_node.ledger.series import Series, complete, quiet_series, skip, undecided
from dicom_node.logs import get_logger, reason_of, short_hash
from dicom_node.rules import LiveRules, Skip, decide, default_work
from dicom_node.settings import Settings
from dicom_node.store.inbox import Inbox

log = get_logger(__name__)


class Completion:
    """Completes series that have been quiet long enough and decides about them.

    Args:
        ledger: The ledger.
        inbox: Received images.
        settings: Quiet time, default model and destinations.
        rules: The site's rules; read from the settings' file unless given.
    """

    def __init__(
        self, ledger: Ledger, inbox: Inbox, settings: Settings, rules: LiveRules | None = None
    ) -> None:
        self._ledger, self._inbox, self._settings = ledger, inbox, settings
        self._rules = rules or LiveRules(settings)

    def complete_series(self, now: float) -> None:
        """Decide about every series that has been quiet long enough."""
        quiet = self._settings.complete_after_seconds
        at_most = self._settings.completion.at_most_seconds
        for series in quiet_series(
            self._ledger, quiet_seconds=quiet, at_most_seconds=at_most, now=now
        ):
            complete(self._ledger, series, gap="", forced=False, now=now)
        for series in undecided(self._ledger):
            try:
                self._decide(series, now)
            except Exception as error:  # one series must not hold up the others
                known = short_hash(series.series_uid)
                log.error("no decision", series=known, reason=reason_of(error))

    def _decide(self, series: Series, now: float) -> None:
        decision = decide(
            list(self._headers(series)),
            otherwise=default_work(self._settings),
            rules=self._rules.rules,
            source_ae=series.source_ae,
        )
        known = {"series": short_hash(series.series_uid), "images": len(series.names)}
        if isinstance(decision, Skip):
            if skip(self._ledger, series, reason=decision.reason, now=now):
                log.info("series skipped", reason=decision.reason, **known)
            return
        work = Work(decision.model, decision.strength, decision.destinations)
        job = enqueue(self._ledger, series, work, now=now)
        if job is not None:
            log.info("series complete", job=job.id, generation=job.generation, **known)

    def _headers(self, series: Series) -> Iterator[Dataset]:
        for name in series.names:
            try:
                yield dcmread(self._inbox.path(name), stop_before_pixels=True)
            except (InvalidDicomError, OSError, EOFError, ValueError, KeyError, AttributeError):
                log.warning("image cannot be read", series=short_hash(series.series_uid))

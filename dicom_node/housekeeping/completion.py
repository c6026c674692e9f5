"""Completion: detection of complete series, and the decision about each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace

from pydicom import Dataset

from dicom_node.crashes import CrashRecord, read_crashes, remove_crash_record
from dicom_node.ct.headers import load
from dicom_node.ct.scope import is_localizer, localizer_remark, without_localizers
from dicom_node.ct.shared_elements import SharedElements
from dicom_node.ct.slices.completeness import Completeness, completeness_of
from dicom_node.errors import InputError
from dicom_node.ledger.crashes import MAX_DEATHS
from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.jobs import enqueue
from dicom_node.ledger.leases import is_dead
from dicom_node.ledger.lineage import uncovered_names
from dicom_node.ledger.series import Series, complete, note_death, quiet_series, skip, undecided
from dicom_node.ledger.states import SeriesState
from dicom_node.logs import get_logger, reason_of, short_hash
from dicom_node.memory import header_bytes, memory_limited
from dicom_node.rules import Decision, ReloadableRules, Skip, decide, default_order
from dicom_node.settings import Settings
from dicom_node.store.inbox import Inbox
from dicom_node.work_order import WorkOrder

log = get_logger(__name__)

ONLY_LATE_LOCALIZERS = "only localizer (scout) images came late, and these are left out"
"""Reason to skip a generation with no other images."""
SERIES_PREFIX = "series "
"""Prefix of the number of a series in a crash record."""

_KILLS = (
    "Parked: reading its headers has killed the process twice; other series go on. Keep it and"
    " report it; a further image of it makes the node try once more."
)
_TOO_LARGE = (
    "Its headers need more memory than those of any ordinary series of so many images: send it"
    " without private attributes."
)


def note_crashes(ledger: Ledger, settings: Settings) -> None:
    """Record in the ledger which series' inspection has killed a process of this host."""
    for crash in read_crashes(settings.crashes_folder, is_dead):
        number = crash.work.removeprefix(SERIES_PREFIX)
        if number != crash.work and number.isdigit():
            note_death(ledger, int(number))
            remove_crash_record(settings.crashes_folder, crash.owner)
            log.error("a process died while reading a series", cause=crash.cause)


class Completion:
    """Completes series that have been quiet long enough and decides about them.

    Args:
        ledger: The ledger.
        inbox: Received images.
        settings: Quiet times, default model and destinations.
        rules: The site's rules; by default read from the configured file.
        record: Crash record, which notes the series in progress.
    """

    def __init__(
        self,
        ledger: Ledger,
        inbox: Inbox,
        settings: Settings,
        rules: ReloadableRules | None = None,
        record: CrashRecord | None = None,
    ) -> None:
        self._ledger, self._inbox, self._settings = ledger, inbox, settings
        self._holding = record.holding if record else nullcontext
        self._rules = rules or ReloadableRules(settings)
        self._waiting: dict[int, Series] = {}

    def complete_series(self, now: float) -> None:
        """Decide about every series that is complete or has waited long enough.

        A series with signs of missing images waits longer, but none waits without limit.
        """
        quiet = quiet_series(
            self._ledger,
            quiet_seconds=self._settings.complete_after_seconds,
            at_most_seconds=self._settings.completion.at_most_seconds,
            now=now,
        )
        known = {series.id for series in quiet}
        self._waiting = {key: seen for key, seen in self._waiting.items() if key in known}
        for series in quiet:
            self._each_alone(self._complete, series, now)
        for series in undecided(self._ledger):
            self._each_alone(self._decide, series, now)

    def _each_alone(
        self, step: Callable[[Series, float], None], series: Series, now: float
    ) -> None:
        """Process a series so that it does not block others, even if it kills processes."""
        try:
            if series.deaths >= MAX_DEATHS:
                self._park(series, _KILLS, now)
                return
            with (
                self._holding(f"{SERIES_PREFIX}{series.id}"),
                memory_limited(header_bytes(len(series.names))),
            ):
                step(series, now)
        except MemoryError:
            self._park(series, _TOO_LARGE, now)
        except Exception as error:
            log.error("no decision", series=short_hash(series.series_uid), reason=reason_of(error))

    def _park(self, series: Series, reason: str, now: float) -> None:
        """Skip a series until further images arrive."""
        if series.state == SeriesState.ARRIVING:
            complete(self._ledger, series, gap="", forced=True, now=now)
        if skip(self._ledger, series, reason=reason, now=now):
            log.error("series parked", reason=reason, **_known(series))

    def _complete(self, series: Series, now: float) -> None:
        forced = series.began_at <= now - self._settings.completion.at_most_seconds
        patient = series.last_arrival_at > now - self._settings.completion.gap_after_seconds
        if self._waiting.get(series.id) == series and patient and not forced:
            return  # inspected before, and nothing has arrived since
        headers = list(self._headers(series))
        found = _evidence(series, headers)
        if (found.missing or found.doubt) and patient and not forced:
            self._wait(series, found)
            return
        if not complete(self._ledger, series, gap=found.missing, forced=forced, now=now):
            return  # an image has arrived meanwhile
        self._waiting.pop(series.id, None)
        if not forced:  # else images may have arrived since these headers were read
            self._decide(replace(series, gap=found.missing), now, headers)

    def _wait(self, series: Series, found: Completeness) -> None:
        self._waiting[series.id] = series
        reason = found.missing or found.doubt
        log.info("series waits for images", why=reason, **_known(series))

    def _decide(self, series: Series, now: float, headers: Sequence[Dataset] | None = None) -> None:
        headers = headers or list(self._headers(series))
        decision = self._decision(series, headers)
        if isinstance(decision, WorkOrder):
            remark = localizer_remark(len(headers) - len(without_localizers(headers)))
            order = replace(decision, remark=remark)
            if not self._only_localizers_came_late(series, order):
                self._enqueue(series, order, now)
                return
            decision = Skip(ONLY_LATE_LOCALIZERS, decision.rule)
        if skip(self._ledger, series, reason=decision.reason, rule=decision.rule, now=now):
            log.info("series skipped", reason=decision.reason, rule=decision.rule, **_known(series))

    def _enqueue(self, series: Series, order: WorkOrder, now: float) -> None:
        job = enqueue(self._ledger, series, order, now=now)
        if job is not None:
            fields = {
                "generation": job.generation,
                "missing": series.gap,
                "rule": job.rule,
                "remark": order.remark,
            }
            given = {key: value for key, value in fields.items() if value}
            log.info("series complete", job=job.id, **given, **_known(series))

    def _only_localizers_came_late(self, series: Series, order: WorkOrder) -> bool:
        """Whether all images that earlier jobs do not cover are localizers."""
        if series.generation == 1 or not order.remark:
            return False
        fresh = list(self._loaded(series, uncovered_names(self._ledger, series, order)))
        return bool(fresh) and all(map(is_localizer, fresh))

    def _decision(self, series: Series, headers: Sequence[Dataset]) -> Decision:
        decision = decide(
            headers,
            otherwise=default_order(self._settings),
            rules=self._rules.rules,
            source_ae=series.source_ae,
        )
        if isinstance(decision, Skip) or decision.incomplete == "denoise" or not series.gap:
            return decision
        return Skip(f"incomplete: {series.gap}", decision.rule)

    def _headers(self, series: Series) -> Iterator[Dataset]:
        return self._loaded(series, series.names)

    def _loaded(self, series: Series, names: Sequence[str]) -> Iterator[Dataset]:
        """Yield the readable headers.

        Raises:
            StorageError: The disk fails; an image that is unreadable now must not count as missing.
        """
        shared = SharedElements()
        for name in names:
            try:
                yield shared.header(load(self._inbox.path(name), pixels=False))
            except InputError:
                log.warning("image cannot be read", series=short_hash(series.series_uid))


def _evidence(series: Series, headers: Sequence[Dataset]) -> Completeness:
    """Return the signs of missing images; gaps prove nothing where retention has deleted some."""
    found = completeness_of(headers)
    return Completeness(doubt=found.missing or found.doubt) if series.purged else found


def _known(series: Series) -> dict[str, str | int]:
    return {"series": short_hash(series.series_uid), "images": len(series.names)}

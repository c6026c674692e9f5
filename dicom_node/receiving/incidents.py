"""Rate-limited log of refused and broken connections, per address and reason.

One address could otherwise fill log and audit trail with a kilobyte for every attempt. The first
incidents of a kind are logged one by one, further ones in one message a minute with their number.
Memory is bounded: beyond `MAX_FOLDED_COUNT` kinds, incidents of all addresses are counted together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

from dicom_node.audit import Audit, Peer
from dicom_node.logs import get_logger
from dicom_node.receiving.slots import address_key

log = get_logger(__name__)

FOLDING_SECONDS = 60.0
"""Repeated incidents of a kind are logged together once in this time."""

MAX_SINGLE_COUNT = 3
"""Incidents of a kind that are logged one by one before they are only counted."""

MAX_FOLDED_COUNT = 256
"""Kinds of incidents, by event, reason and address, that are counted separately."""

SEVERAL = "several addresses"


@dataclass(frozen=True)
class Incident:
    """A connection or association that was refused or broken.

    Attributes:
        event: Event name of the log line.
        reason: Its reason.
        peer: The peer concerned.
        alert: Text of the security alert for the audit trail; empty for none.
        called: Called AE title, if one was sent.
        refused: Presentation contexts that were proposed and refused, if any.
    """

    event: str
    reason: str
    peer: Peer
    alert: str = ""
    called: str = ""
    refused: str = ""


@dataclass
class _Fold:
    until: float
    last: Incident
    singles: int = 1
    count: int = 0


class IncidentLog:
    """Writes incidents to log and audit trail, and folds those that repeat.

    Args:
        audit: Audit trail that gets the security alerts.
        clock: Monotonic clock, seconds.
    """

    def __init__(self, audit: Audit, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._audit, self._clock = audit, clock
        self._folds: dict[tuple[str, str, str], _Fold] = {}
        self._lock = Lock()

    def report(self, incident: Incident) -> None:
        """Log an incident at once, or count it."""
        with self._lock:
            fold = self._folds.get(self._key(incident))
            if fold is None:
                self._folds[self._key(incident)] = _Fold(self._clock() + FOLDING_SECONDS, incident)
            elif fold.singles < MAX_SINGLE_COUNT:
                fold.singles += 1
            else:
                fold.last, fold.count = incident, fold.count + 1
                return
        self._write(incident, 0)

    def sweep(self) -> None:
        """Log the counts of periods that have ended; called several times a second."""
        now = self._clock()
        with self._lock:
            over = [(key, fold) for key, fold in self._folds.items() if fold.until <= now]
            for key, fold in over:
                del self._folds[key]
                if fold.count:
                    self._folds[key] = _Fold(now + FOLDING_SECONDS, fold.last, MAX_SINGLE_COUNT)
        self._log_counts(over)

    def close(self) -> None:
        """Log all counts."""
        with self._lock:
            left, self._folds = list(self._folds.items()), {}
        self._log_counts(left)

    def _log_counts(self, folds: list[tuple[tuple[str, str, str], _Fold]]) -> None:
        for (*_, address), fold in folds:
            if fold.count:
                incident = (
                    replace(fold.last, peer=Peer("", SEVERAL)) if address == SEVERAL else fold.last
                )
                self._write(incident, fold.count)

    def _key(self, incident: Incident) -> tuple[str, str, str]:
        key = incident.event, incident.reason, address_key(incident.peer.host)
        if key in self._folds or len(self._folds) < MAX_FOLDED_COUNT:
            return key
        return incident.event, incident.reason, SEVERAL

    def _write(self, incident: Incident, repeated: int) -> None:
        fields = {
            "calling": incident.peer.ae_title,
            "called": incident.called,
            "host": incident.peer.host,
            "reason": incident.reason,
            "refused": incident.refused,
        }
        known: dict[str, str | int] = {name: value for name, value in fields.items() if value}
        if repeated:
            known |= {"repeated": repeated, "seconds": int(FOLDING_SECONDS)}
        log.warning(incident.event, **known)
        if incident.alert:
            again = f"; {repeated} more within {FOLDING_SECONDS:.0f} s" if repeated else ""
            self._audit.security_alert(incident.alert + again, peer=incident.peer)

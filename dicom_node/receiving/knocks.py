"""Knocks at the door that come to nothing: told, then counted, an address and reason each.

One address could otherwise fill log and audit trail with a kilobyte for every knock. The first few
of a kind are told at once, those that follow in one message a minute with their number. What is
remembered is bounded: beyond so many addresses the others are told together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

from dicom_node.audit import Audit, Peer
from dicom_node.logs import get_logger
from dicom_node.receiving.places import address_key

log = get_logger(__name__)

FOLDING_SECONDS = 60.0
MAX_TOLD_COUNT = 3
"""So many of a kind are told one by one before they are counted."""

MAX_FOLDED_COUNT = 256
SEVERAL = "several addresses"


@dataclass(frozen=True)
class Knock:
    """Something that was refused or went wrong.

    Attributes:
        event: What happened, as the log says it.
        reason: Why.
        peer: Whose it was.
        alert: What the audit trail is told; empty when it is not.
        called: The title that was called, if any.
        refused: What was asked for and refused, if any.
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
    last: Knock
    told: int = 1
    count: int = 0


class Knocks:
    """Tells of knocks, and folds those that repeat.

    Args:
        audit: Told of those with an alert.
        clock: Seconds that never go back.
    """

    def __init__(self, audit: Audit, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._audit, self._clock = audit, clock
        self._folds: dict[tuple[str, str, str], _Fold] = {}
        self._lock = Lock()

    def tell(self, knock: Knock) -> None:
        """Tell of a knock at once, or count it."""
        with self._lock:
            fold = self._folds.get(self._key(knock))
            if fold is None:
                self._folds[self._key(knock)] = _Fold(self._clock() + FOLDING_SECONDS, knock)
            elif fold.told < MAX_TOLD_COUNT:
                fold.told += 1
            else:
                fold.last, fold.count = knock, fold.count + 1
                return
        self._write(knock, 0)

    def sweep(self) -> None:
        """Tell what was counted in the minutes that are over; to be called now and then."""
        now = self._clock()
        with self._lock:
            over = [(key, fold) for key, fold in self._folds.items() if fold.until <= now]
            for key, fold in over:
                del self._folds[key]
                if fold.count:
                    self._folds[key] = _Fold(now + FOLDING_SECONDS, fold.last, MAX_TOLD_COUNT)
        self._tell_counts(over)

    def close(self) -> None:
        """Tell what was counted."""
        with self._lock:
            left, self._folds = list(self._folds.items()), {}
        self._tell_counts(left)

    def _tell_counts(self, folds: list[tuple[tuple[str, str, str], _Fold]]) -> None:
        for (*_, address), fold in folds:
            if fold.count:
                knock = (
                    replace(fold.last, peer=Peer("", SEVERAL)) if address == SEVERAL else fold.last
                )
                self._write(knock, fold.count)

    def _key(self, knock: Knock) -> tuple[str, str, str]:
        key = knock.event, knock.reason, address_key(knock.peer.host)
        if key in self._folds or len(self._folds) < MAX_FOLDED_COUNT:
            return key
        return knock.event, knock.reason, SEVERAL

    def _write(self, knock: Knock, repeated: int) -> None:
        fields = {
            "calling": knock.peer.ae_title,
            "called": knock.called,
            "host": knock.peer.host,
            "reason": knock.reason,
            "refused": knock.refused,
        }
        known: dict[str, str | int] = {name: value for name, value in fields.items() if value}
        if repeated:
            known |= {"repeated": repeated, "seconds": int(FOLDING_SECONDS)}
        log.warning(knock.event, **known)
        if knock.alert:
            again = f"; {repeated} more within {FOLDING_SECONDS:.0f} s" if repeated else ""
            self._audit.security_alert(knock.alert + again, peer=knock.peer)

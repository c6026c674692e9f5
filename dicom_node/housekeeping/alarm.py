"""Tell people what is wrong with the node: each kind of trouble once, until it is over."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dicom_node.health import Trouble, take_snapshot, troubles_of
from dicom_node.heartbeat import Silences
from dicom_node.housekeeping.channel import Turn, channels
from dicom_node.housekeeping.message import TroubleNews
from dicom_node.ledger.engine import Ledger
from dicom_node.logs import get_logger
from dicom_node.settings import Settings

log = get_logger(__name__)

LASTING_SECONDS = 120.0
"""What is over sooner, such as a part that restarts, is not told."""

SILENCE_SECONDS = 3600.0
"""A kind of trouble that comes and goes is told again at most so often."""

TOLD_BY_JOB = frozenset({"failed"})
"""Jobs that have failed are told one by one, with their reasons."""


@dataclass
class _Ear:
    """A channel, and when it was last told of each kind."""

    turn: Turn
    told_at: dict[str, float] = field(default_factory=dict)
    aware: set[str] = field(default_factory=set)


class Alarm:
    """Tells of troubles that last.

    Args:
        settings: Channels and own AE title.
        look: Finds the troubles that the node has now.
    """

    def __init__(self, settings: Settings, look: Callable[[], Sequence[Trouble]]) -> None:
        self._ae_title, self._look = settings.ae_title, look
        self._ears = [_Ear(Turn(channel)) for channel in channels(settings)]
        self._since: dict[str, float] = {}

    def tell_troubles(self, now: float) -> None:
        """Tell what has lasted and has not been told.

        Args:
            now: Seconds of a clock that nobody sets.
        """
        if not self._ears:
            return
        troubles = [trouble for trouble in self._look() if trouble.kind not in TOLD_BY_JOB]
        found = {trouble.kind for trouble in troubles}
        self._since = {kind: self._since.get(kind, now) for kind in found}
        lasting = {kind for kind in found if now - self._since[kind] >= LASTING_SECONDS}
        for ear in self._ears:
            ear.aware &= found
            new = {kind for kind in lasting - ear.aware if _may_tell(ear, kind, now)}
            told = [trouble for trouble in troubles if trouble.kind in new]
            news = TroubleNews(self._ae_title, socket.gethostname(), told)
            if told and ear.turn.tell(news, now):
                ear.aware |= new
                ear.told_at |= dict.fromkeys(new, now)
                log.info("troubles told", channel=ear.turn.channel.name, kinds=sorted(new))


def _may_tell(ear: _Ear, kind: str, now: float) -> bool:
    return kind not in ear.told_at or now - ear.told_at[kind] >= SILENCE_SECONDS


def alarm(ledger: Ledger, settings: Settings) -> Alarm:
    """The alarm of a node, which looks as its health check does."""
    silences = Silences()

    def look() -> Sequence[Trouble]:
        return troubles_of(take_snapshot(settings, ledger, silences=silences, now=time.time()))

    return Alarm(settings, look)

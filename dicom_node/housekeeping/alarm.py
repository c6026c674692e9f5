"""Notification of lasting problems of the node, each kind once until it is resolved."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dicom_node.health import Problem, find_problems, take_snapshot
from dicom_node.heartbeat import HeartbeatAges
from dicom_node.housekeeping.channel import RetryingChannel, channels
from dicom_node.housekeeping.message import ProblemMessage
from dicom_node.ledger.engine import Ledger
from dicom_node.logs import get_logger
from dicom_node.settings import Settings

log = get_logger(__name__)

MIN_PROBLEM_SECONDS = 120.0
"""Shorter problems, such as the restart of a part, are not notified."""

MIN_REPEAT_SECONDS = 3600.0
"""Shortest time between two notifications of a recurring kind of problem."""

NOTIFIED_BY_JOB = frozenset({"failed"})
"""Failed jobs are notified one by one, with their reasons (``notification``)."""


@dataclass
class _Subscriber:
    """A channel, its current kinds of problem, and the time of each kind's last notification."""

    channel: RetryingChannel
    notified_at: dict[str, float] = field(default_factory=dict)
    notified: set[str] = field(default_factory=set)


class Alarm:
    """Sends notifications of problems that last.

    Args:
        settings: Channels and own AE title.
        find: Function that returns the current problems of the node.
    """

    def __init__(self, settings: Settings, find: Callable[[], Sequence[Problem]]) -> None:
        self._ae_title, self._find = settings.ae_title, find
        self._subscribers = [_Subscriber(channel) for channel in channels(settings)]
        self._since: dict[str, float] = {}

    def notify_problems(self, now: float) -> None:
        """Notify of problems that last and have not been notified.

        Args:
            now: Seconds of a monotonic clock.
        """
        if not self._subscribers:
            return
        problems = [problem for problem in self._find() if problem.kind not in NOTIFIED_BY_JOB]
        found = {problem.kind for problem in problems}
        self._since = {kind: self._since.get(kind, now) for kind in found}
        lasting = {kind for kind in found if now - self._since[kind] >= MIN_PROBLEM_SECONDS}
        for one in self._subscribers:
            one.notified &= found
            new = {kind for kind in lasting - one.notified if _is_due(one, kind, now)}
            due = [problem for problem in problems if problem.kind in new]
            message = ProblemMessage(self._ae_title, socket.gethostname(), due)
            if due and one.channel.send(message, now):
                one.notified |= new
                one.notified_at |= dict.fromkeys(new, now)
                log.info("troubles told", channel=one.channel.name, kinds=sorted(new))


def _is_due(subscriber: _Subscriber, kind: str, now: float) -> bool:
    last = subscriber.notified_at.get(kind)
    return last is None or now - last >= MIN_REPEAT_SECONDS


def alarm(ledger: Ledger, settings: Settings) -> Alarm:
    """Make the alarm of a node, on the same problems as its health check."""
    ages = HeartbeatAges()

    def find() -> Sequence[Problem]:
        return find_problems(take_snapshot(settings, ledger, ages=ages, now=time.time()))

    return Alarm(settings, find)

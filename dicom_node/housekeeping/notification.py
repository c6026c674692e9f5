"""Tell people that jobs have failed for good: by mail, by a web hook, once a job."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dicom_node.errors import PeerError
from dicom_node.housekeeping.mail import Mail
from dicom_node.housekeeping.news import Channel, News
from dicom_node.housekeeping.webhook import Webhook
from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import mark_notified, unnotified
from dicom_node.logs import get_logger
from dicom_node.settings import Settings

log = get_logger(__name__)

FIRST_DELAY_SECONDS = 60.0
LONGEST_DELAY_SECONDS = 3600.0
"""A channel that is away is tried again after 1, 2, 4 ... 60 minutes."""

_Failure = tuple[int, float]
"""A job, and when it failed: one that is tried again and fails again is news."""


@dataclass
class _Turn:
    """One channel: whom it has told, and when it is tried again."""

    channel: Channel
    told: set[_Failure] = field(default_factory=set)
    next_at: float = 0.0
    delay: float = FIRST_DELAY_SECONDS


class Notification:
    """Tells of jobs that have failed, each once; several that failed together in one message.

    A channel that is away holds up no other: what it has not told yet, it tells later. The ledger
    remembers a job as told when all channels have told it; a restart before that tells it again.

    Args:
        ledger: The ledger.
        settings: Channels and own AE title.
    """

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger, self._ae_title = ledger, settings.ae_title
        self._turns = [_Turn(channel) for channel in channels(settings)]

    def notify(self, now: float) -> None:
        """Tell what is to be told."""
        jobs = unnotified(self._ledger)
        for turn in self._turns:
            news = [job for job in jobs if _failure(job) not in turn.told]
            if news and now >= turn.next_at:
                self._tell(turn, news, now)
        everywhere = [
            job for job in jobs if all(_failure(job) in turn.told for turn in self._turns)
        ]
        for job in everywhere:
            mark_notified(self._ledger, job.id, now=now)
        for turn in self._turns:
            turn.told.difference_update(_failure(job) for job in everywhere)

    def _tell(self, turn: _Turn, jobs: Sequence[Job], now: float) -> None:
        try:
            turn.channel.tell(News(self._ae_title, socket.gethostname(), jobs))
        except PeerError as error:
            turn.next_at = now + turn.delay
            turn.delay = min(2 * turn.delay, LONGEST_DELAY_SECONDS)
            log.warning("notification waits", channel=turn.channel.name, reason=str(error))
        else:
            turn.told.update(_failure(job) for job in jobs)
            turn.next_at, turn.delay = 0.0, FIRST_DELAY_SECONDS
            log.info("failed jobs told", channel=turn.channel.name, jobs=len(jobs))


def _failure(job: Job) -> _Failure:
    return job.id, job.updated_at


def channels(settings: Settings) -> list[Channel]:
    """The configured channels."""
    kinds: list[tuple[Any, Callable[[Any], Channel]]] = [
        (settings.notify.email, Mail),
        (settings.notify.webhook, Webhook),
    ]
    return [make(wanted) for wanted, make in kinds if wanted is not None]

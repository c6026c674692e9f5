"""Tell people that jobs have failed for good: by mail, by a web hook, once a job."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from dicom_node.housekeeping.channel import Turn, channels
from dicom_node.housekeeping.message import News
from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import mark_notified, unnotified
from dicom_node.logs import get_logger
from dicom_node.settings import Settings

log = get_logger(__name__)

_Failure = tuple[int, float]
"""A job, and when it failed: one that is tried again and fails again is news."""


@dataclass
class _Ear:
    """One channel, and what it has told."""

    turn: Turn
    told: set[_Failure] = field(default_factory=set)


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
        self._ears = [_Ear(Turn(channel)) for channel in channels(settings)]

    def notify(self, now: float) -> None:
        """Tell what is to be told."""
        jobs = unnotified(self._ledger)
        for item in self._ears:
            news = [job for job in jobs if _failure(job) not in item.told]
            if news and item.turn.tell(self._news(news), now):
                item.told.update(_failure(job) for job in news)
                log.info("failed jobs told", channel=item.turn.channel.name, jobs=len(news))
        everywhere = [job for job in jobs if all(_failure(job) in item.told for item in self._ears)]
        for job in everywhere:
            mark_notified(self._ledger, job.id, now=now)
        for item in self._ears:
            item.told.difference_update(_failure(job) for job in everywhere)

    def _news(self, jobs: Sequence[Job]) -> News:
        return News(self._ae_title, socket.gethostname(), jobs)


def _failure(job: Job) -> _Failure:
    return job.id, job.updated_at

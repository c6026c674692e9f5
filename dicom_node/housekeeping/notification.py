"""Notification of failed jobs by e-mail and webhook, once for each job."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from dicom_node.housekeeping.channel import RetryingChannel, channels
from dicom_node.housekeeping.message import FailureMessage
from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import mark_notified, unnotified
from dicom_node.logs import get_logger
from dicom_node.settings import Settings

log = get_logger(__name__)

_Failure = tuple[int, float]
"""A job and the time of its failure: a retried job that fails again is notified again."""


@dataclass
class _Subscriber:
    """A channel, and the failures that it has notified."""

    channel: RetryingChannel
    notified: set[_Failure] = field(default_factory=set)


class Notification:
    """Sends one notification for each failed job; one message for several that failed together.

    An unreachable channel does not delay the others and catches up later. The ledger marks a job as
    notified once all channels have sent it; a restart before that sends it again.

    Args:
        ledger: The ledger.
        settings: Channels and own AE title.
    """

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger, self._ae_title = ledger, settings.ae_title
        self._subscribers = [_Subscriber(channel) for channel in channels(settings)]

    def notify(self, now: float) -> None:
        """Send the notifications that are due."""
        jobs = unnotified(self._ledger)
        for one in self._subscribers:
            due = [job for job in jobs if _failure(job) not in one.notified]
            if due and one.channel.send(self._message(due), now):
                one.notified.update(_failure(job) for job in due)
                log.info("failed jobs told", channel=one.channel.name, jobs=len(due))
        done = [
            job for job in jobs if all(_failure(job) in one.notified for one in self._subscribers)
        ]
        for job in done:
            mark_notified(self._ledger, job.id, now=now)
        for one in self._subscribers:
            one.notified.difference_update(_failure(job) for job in done)

    def _message(self, jobs: Sequence[Job]) -> FailureMessage:
        return FailureMessage(self._ae_title, socket.gethostname(), jobs)


def _failure(job: Job) -> _Failure:
    return job.id, job.updated_at

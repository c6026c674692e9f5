"""Channels for notifications, retried later while they are unreachable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dicom_node.backoff import Backoff
from dicom_node.errors import PeerError
from dicom_node.housekeeping.mail import Mail
from dicom_node.housekeeping.message import Channel, Message
from dicom_node.housekeeping.webhook import Webhook
from dicom_node.logs import get_logger
from dicom_node.settings import Settings

log = get_logger(__name__)

FIRST_DELAY_SECONDS = 60.0
MAX_DELAY_SECONDS = 3600.0
"""An unreachable channel is retried after 1, 2, 4 ... 60 minutes."""


@dataclass
class RetryingChannel:
    """A channel, and the time of its next attempt."""

    channel: Channel
    next_at: float = 0.0
    backoff: Backoff = field(
        default_factory=lambda: Backoff(FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS)
    )

    @property
    def name(self) -> str:
        """Name of the channel in the log."""
        return self.channel.name

    def send(self, message: Message, now: float) -> bool:
        """Send a message unless the channel failed a moment ago; return whether it was sent."""
        if now < self.next_at:
            return False
        try:
            self.channel.send(message)
        except PeerError as error:
            self.next_at = now + self.backoff.next_seconds()
            log.warning("notification waits", channel=self.name, reason=str(error))
            return False
        self.next_at = 0.0
        self.backoff.reset()
        return True


def channels(settings: Settings) -> list[RetryingChannel]:
    """Return the configured channels."""
    kinds: list[tuple[Any, Callable[[Any], Channel]]] = [
        (settings.notify.email, Mail),
        (settings.notify.webhook, Webhook),
    ]
    return [RetryingChannel(make(wanted)) for wanted, make in kinds if wanted is not None]

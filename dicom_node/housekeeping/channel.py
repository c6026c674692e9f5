"""One channel's turn: told once, and tried again later while it is away."""

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
"""A channel that is away is tried again after 1, 2, 4 ... 60 minutes."""


@dataclass
class Turn:
    """A channel, and when it is tried again."""

    channel: Channel
    next_at: float = 0.0
    backoff: Backoff = field(
        default_factory=lambda: Backoff(FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS)
    )

    def tell(self, news: Message, now: float) -> bool:
        """Tell the news unless the channel was away a moment ago; whether they got through."""
        if now < self.next_at:
            return False
        try:
            self.channel.tell(news)
        except PeerError as error:
            self.next_at = now + self.backoff.next_seconds()
            log.warning("notification waits", channel=self.channel.name, reason=str(error))
            return False
        self.next_at = 0.0
        self.backoff.reset()
        return True


def channels(settings: Settings) -> list[Channel]:
    """The configured channels."""
    kinds: list[tuple[Any, Callable[[Any], Channel]]] = [
        (settings.notify.email, Mail),
        (settings.notify.webhook, Webhook),
    ]
    return [make(wanted) for wanted, make in kinds if wanted is not None]

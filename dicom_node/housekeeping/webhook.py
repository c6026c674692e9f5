"""Notification by webhook: HTTP POST of a JSON document."""

from __future__ import annotations

import base64
import json
from urllib.parse import unquote, urlsplit

from dicom_node.errors import PeerError
from dicom_node.housekeeping.message import Message
from dicom_node.settings import WebhookSettings
from dicom_node.web_client import ExchangeFailed, exchange

WEBHOOK_SECONDS = 15.0
"""Limit of a whole request with its response."""


class Webhook:
    """Channel that posts to a web server.

    Args:
        settings: URL and token.
        seconds: Limit of a whole request with its response.
    """

    name = "web hook"

    def __init__(self, settings: WebhookSettings, *, seconds: float = WEBHOOK_SECONDS) -> None:
        self._settings, self._seconds = settings, seconds

    def send(self, message: Message) -> None:
        """Send a message; see :class:`Channel`."""
        try:
            answer = exchange(
                "POST",
                self._settings.url,
                seconds=self._seconds,
                headers={"Content-Type": "application/json", **self._authorization()},
                body=json.dumps(message.document).encode(),
            )
        except ExchangeFailed as error:
            raise _not_accepted(str(error)) from error
        if not 200 <= answer.status < 300:
            raise _not_accepted(f"status {answer.status}")

    def _authorization(self) -> dict[str, str]:
        """Return the header for the token, or for the user name and password in the URL."""
        if self._settings.token is not None:
            return {"Authorization": f"Bearer {self._settings.token.get_secret_value()}"}
        parts = urlsplit(self._settings.url)
        if parts.username is None:
            return {}
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _not_accepted(reason: str) -> PeerError:
    """Make the error, without the URL: that of a chat service is a secret."""
    return PeerError(
        f"The webhook did not accept a message ({reason}); check `notify.webhook`.", transient=True
    )

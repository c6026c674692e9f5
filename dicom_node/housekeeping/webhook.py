"""News for a web server, by HTTP POST of a JSON document."""

from __future__ import annotations

import base64
import json
from urllib.parse import unquote, urlsplit

from dicom_node.errors import PeerError
from dicom_node.housekeeping.message import Message
from dicom_node.settings import WebhookSettings
from dicom_node.web_client import ExchangeFailed, exchange

HOOK_SECONDS = 15.0
"""For a whole message with its answer."""


class Webhook:
    """Tells a web server.

    Args:
        settings: Address and token.
        seconds: For a whole message with its answer.
    """

    name = "web hook"

    def __init__(self, settings: WebhookSettings, *, seconds: float = HOOK_SECONDS) -> None:
        self._settings, self._seconds = settings, seconds

    def tell(self, news: Message) -> None:
        """See :class:`Channel`."""
        try:
            answer = exchange(
                "POST",
                self._settings.url,
                seconds=self._seconds,
                headers={"Content-Type": "application/json", **self._authorization()},
                body=json.dumps(news.document).encode(),
            )
        except ExchangeFailed as error:
            raise _no_hook(str(error)) from error
        if not 200 <= answer.status < 300:
            raise _no_hook(f"status {answer.status}")

    def _authorization(self) -> dict[str, str]:
        """The token, or the user name and password of the address."""
        if self._settings.token is not None:
            return {"Authorization": f"Bearer {self._settings.token.get_secret_value()}"}
        parts = urlsplit(self._settings.url)
        if parts.username is None:
            return {}
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _no_hook(why: str) -> PeerError:
    """The address is not repeated: that of a chat service is a secret."""
    return PeerError(
        f"the web hook did not take a message ({why}); check `notify.webhook`.", transient=True
    )

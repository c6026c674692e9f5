"""Who is told that jobs have failed for good: by mail, by a web hook, once a job."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any, Protocol

import requests

from dicom_node.errors import PeerError
from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import mark_notified, unnotified
from dicom_node.logs import get_logger, short_hash
from dicom_node.settings import EmailSettings, Settings, WebhookSettings

log = get_logger(__name__)

NETWORK_SECONDS = 10.0
"""Longest wait for one answer of a mail server or a web hook."""

FIRST_DELAY_SECONDS = 60.0
LONGEST_DELAY_SECONDS = 3600.0
"""A channel that is away is tried again after 1, 2, 4 ... 60 minutes."""

SHOWN_JOBS = 20
"""One message names at most so many jobs: a PACS that refuses everything fails hundreds."""


@dataclass(frozen=True)
class News:
    """Jobs that have failed, and on which node."""

    ae_title: str
    host: str
    jobs: Sequence[Job]

    @property
    def headline(self) -> str:
        """One line for a subject."""
        count = len(self.jobs)
        what = f"job {self.jobs[0].id} has failed" if count == 1 else f"{count} jobs have failed"
        return f"{self.ae_title} on {self.host}: {what}"

    @property
    def text(self) -> str:
        """The jobs with their reasons, and what to do; no identity."""
        lines = [f"{self.headline}.", ""]
        lines += [
            f"job {job.id} (series {short_hash(job.series_uid)}): {job.reason}"
            for job in self.jobs[:SHOWN_JOBS]
        ]
        if len(self.jobs) > SHOWN_JOBS:
            lines.append(f"and {len(self.jobs) - SHOWN_JOBS} more")
        lines += [
            "",
            "`dicom-node jobs show ID` tells more, `dicom-node jobs retry ID` tries again.",
        ]
        return "\n".join(lines)

    @property
    def document(self) -> dict[str, Any]:
        """The same for programs; chat services show `text`."""
        return {
            "event": "jobs_failed",
            "text": self.text,
            "node": self.ae_title,
            "host": self.host,
            "jobs": [
                {
                    "id": job.id,
                    "series": short_hash(job.series_uid),
                    "reason": job.reason,
                    "failed_at": job.updated_at,
                }
                for job in self.jobs[:SHOWN_JOBS]
            ],
        }


class Channel(Protocol):
    """A way to tell somebody."""

    @property
    def name(self) -> str:
        """What it is called in the log."""

    def tell(self, news: News) -> None:
        """Tell the news.

        Raises:
            PeerError: They did not get through.
        """


class Mail:
    """Tells by mail (RFC 5321)."""

    name = "e-mail"

    def __init__(self, settings: EmailSettings) -> None:
        self._settings = settings

    def tell(self, news: News) -> None:
        """See :class:`Channel`."""
        wanted = self._settings
        try:
            with closing(smtplib.SMTP(wanted.host, wanted.port, timeout=NETWORK_SECONDS)) as server:
                if wanted.starttls:
                    server.starttls(context=ssl.create_default_context())
                if wanted.username is not None:
                    password = wanted.password.get_secret_value() if wanted.password else ""
                    server.login(wanted.username, password)
                server.send_message(self._message(news))
                with suppress(OSError, smtplib.SMTPException):
                    server.quit()  # it has the mail, however it says goodbye
        except (OSError, smtplib.SMTPException) as error:
            raise PeerError(
                f"the mail server {wanted.host}:{wanted.port} did not take a mail"
                f" ({type(error).__name__}); check `notify.email`.",
                transient=True,
            ) from error

    def _message(self, news: News) -> EmailMessage:
        message = EmailMessage()
        message["Subject"] = news.headline
        message["From"] = self._settings.sender
        message["To"] = ", ".join(self._settings.recipients)
        message.set_content(news.text)
        return message


class Webhook:
    """Tells a web server, by HTTP POST of a JSON document."""

    name = "web hook"

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings

    def tell(self, news: News) -> None:
        """See :class:`Channel`."""
        token = self._settings.token
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
        try:
            answer = requests.post(
                self._settings.url,
                json=news.document,
                headers=headers,
                timeout=NETWORK_SECONDS,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise _no_hook(type(error).__name__) from error
        if not answer.ok or answer.is_redirect:
            raise _no_hook(f"status {answer.status_code}")


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


def _no_hook(why: str) -> PeerError:
    """The address is not repeated: that of a chat service is a secret."""
    return PeerError(
        f"the web hook did not take a message ({why}); check `notify.webhook`.", transient=True
    )

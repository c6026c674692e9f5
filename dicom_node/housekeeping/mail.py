"""News by mail (RFC 5321), in bounded time and size whatever the mail server answers."""

from __future__ import annotations

import smtplib
from contextlib import closing, suppress
from email.message import EmailMessage
from typing import IO, Any, cast

from dicom_node.deadline import Deadline
from dicom_node.errors import PeerError
from dicom_node.housekeeping.message import Message
from dicom_node.settings import EmailSettings
from dicom_node.timed_socket import TimedSocket
from dicom_node.tls import public_context

MAIL_SECONDS = 30.0
"""For a whole mail, from the connection to the server's last word."""

CONNECT_SECONDS = 10.0

MAX_REPLY_BYTES = 64 << 10
"""All that a mail server may say about one mail."""


class Mail:
    """Tells by mail.

    Args:
        settings: Server, sender and recipients.
        seconds: For a whole mail.
    """

    name = "e-mail"

    def __init__(self, settings: EmailSettings, *, seconds: float = MAIL_SECONDS) -> None:
        self._settings, self._seconds = settings, seconds

    def tell(self, news: Message) -> None:
        """See :class:`Channel`."""
        wanted = self._settings
        try:
            deadline = Deadline(self._seconds)
            with closing(_TimedSMTP(wanted.host, wanted.port, deadline)) as server:
                if wanted.starttls:
                    server.starttls(context=public_context())
                if wanted.username is not None:
                    password = wanted.password.get_secret_value() if wanted.password else ""
                    server.login(wanted.username, password)
                server.send_message(self._message(news))
                with suppress(OSError, smtplib.SMTPException):
                    server.quit()  # it has the mail, however it says goodbye
        except (OSError, ValueError) as error:
            raise PeerError(
                f"the mail server {wanted.host}:{wanted.port} did not take a mail"
                f" ({type(error).__name__}); check `notify.email`.",
                transient=True,
            ) from error

    def _message(self, news: Message) -> EmailMessage:
        message = EmailMessage()
        message["Subject"] = news.headline
        message["From"] = self._settings.sender
        message["To"] = ", ".join(self._settings.recipients)
        message.set_content(news.text)
        return message


class _TimedSMTP(smtplib.SMTP):
    """A conversation with a mail server under one deadline."""

    def __init__(self, host: str, port: int, deadline: Deadline) -> None:
        self._deadline, self._heard = deadline, _Heard()
        super().__init__(host, port, timeout=CONNECT_SECONDS)

    def getreply(self) -> tuple[int, bytes]:
        """Read one reply; what is sent after it has the rest of the time."""
        if self.file is None and self.sock is not None:
            stream = TimedSocket(self.sock, self._deadline).makefile("rb")
            self.file = cast(IO[Any], _Replies(stream, self._heard))
        code, text = super().getreply()
        remaining = self._deadline.remaining()
        if remaining <= 0:
            raise TimeoutError("the deadline has passed")
        if self.sock is not None:
            self.sock.settimeout(remaining)
        return code, text


class _Heard:
    """Bytes that a server has said so far."""

    size = 0


class _Replies:
    """Lines of a mail server, up to `MAX_REPLY_BYTES` in all."""

    def __init__(self, stream: IO[bytes], heard: _Heard) -> None:
        self._stream, self._heard = stream, heard

    def readline(self, limit: int) -> bytes:
        line = self._stream.readline(limit)
        self._heard.size += len(line)
        if self._heard.size > MAX_REPLY_BYTES:
            raise OSError("the mail server does not come to the end of its reply")
        return line

    def close(self) -> None:
        self._stream.close()

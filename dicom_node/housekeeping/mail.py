"""Notification by e-mail (RFC 5321), bounded in time and size whatever the server answers."""

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
"""Limit of a whole mail, from connecting to the server's last reply."""

CONNECT_SECONDS = 10.0

MAX_REPLY_BYTES = 64 << 10
"""Limit of all replies of a mail server to one mail."""


class Mail:
    """Channel that sends e-mail.

    Args:
        settings: Server, sender and recipients.
        seconds: Limit of a whole mail.
    """

    name = "e-mail"

    def __init__(self, settings: EmailSettings, *, seconds: float = MAIL_SECONDS) -> None:
        self._settings, self._seconds = settings, seconds

    def send(self, message: Message) -> None:
        """Send a message; see :class:`Channel`."""
        wanted = self._settings
        try:
            deadline = Deadline(self._seconds)
            with closing(_TimedSMTP(wanted.host, wanted.port, deadline)) as server:
                if wanted.starttls:
                    server.starttls(context=public_context())
                if wanted.username is not None:
                    password = wanted.password.get_secret_value() if wanted.password else ""
                    server.login(wanted.username, password)
                server.send_message(self._mail(message))
                with suppress(OSError, smtplib.SMTPException):
                    server.quit()  # it has accepted the mail, whatever it replies
        except (OSError, ValueError) as error:
            raise PeerError(
                f"The mail server {wanted.host}:{wanted.port} did not accept a mail"
                f" ({type(error).__name__}); check `notify.email`.",
                transient=True,
            ) from error

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        mail["Subject"] = message.headline
        mail["From"] = self._settings.sender
        mail["To"] = ", ".join(self._settings.recipients)
        mail.set_content(message.text)
        return mail


class _TimedSMTP(smtplib.SMTP):
    """An SMTP session under one deadline."""

    def __init__(self, host: str, port: int, deadline: Deadline) -> None:
        self._deadline, self._received = deadline, _Received()
        super().__init__(host, port, timeout=CONNECT_SECONDS)

    def getreply(self) -> tuple[int, bytes]:
        """Read one reply, and leave the rest of the time to what is sent next."""
        if self.file is None and self.sock is not None:
            stream = TimedSocket(self.sock, self._deadline).makefile("rb")
            self.file = cast(IO[Any], _Replies(stream, self._received))
        code, text = super().getreply()
        remaining = self._deadline.remaining()
        if remaining <= 0:
            raise TimeoutError("the deadline has passed")
        if self.sock is not None:
            self.sock.settimeout(remaining)
        return code, text


class _Received:
    """Number of bytes received so far."""

    size = 0


class _Replies:
    """Lines of a mail server, up to `MAX_REPLY_BYTES` in all."""

    def __init__(self, stream: IO[bytes], received: _Received) -> None:
        self._stream, self._received = stream, received

    def readline(self, limit: int) -> bytes:
        line = self._stream.readline(limit)
        self._received.size += len(line)
        if self._received.size > MAX_REPLY_BYTES:
            raise OSError("the mail server does not finish its reply")
        return line

    def close(self) -> None:
        self._stream.close()

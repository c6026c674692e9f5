"""Destinations of audit messages: a file and a syslog collector (RFC 5424), neither blocking."""

from __future__ import annotations

import os
import queue
import socket
import ssl
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from dicom_node import telemetry
from dicom_node.audit.message import Message, Outcome
from dicom_node.backoff import Backoff
from dicom_node.errors import ConfigurationError
from dicom_node.logs import get_logger
from dicom_node.settings import SyslogSettings, TlsSettings
from dicom_node.tls import client_context, public_context

log = get_logger(__name__)

MAX_QUEUED_MESSAGES = 10_000
"""Messages that wait for an unreachable collector; further ones are lost and counted."""

FIRST_DELAY_SECONDS = 1.0
MAX_DELAY_SECONDS = 60.0
NETWORK_SECONDS = 10.0
"""Timeout of one network operation."""

FLUSH_SECONDS = 2.0
"""Time that an ending process waits until the last messages are sent."""

_SECURITY_FACILITY = 10
_WARNING, _NOTICE = 4, 5
_MESSAGE_ID = "DICOM+RFC3881"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Destination(Protocol):
    """Receiver of audit messages; neither method raises or blocks for long."""

    def write(self, message: Message) -> None:
        """Accept one message."""

    def close(self) -> None:
        """Send waiting messages, for a short time."""


class FileDestination:
    """Appends each message to a file as one line; the file may be moved away at any time.

    Raises:
        ConfigurationError: The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failing = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._append(b"")
        except OSError as error:
            raise ConfigurationError(
                f"The audit file {path} cannot be written: {error.strerror}; change `audit` in"
                " node.yaml, or the folder's owner."
            ) from error

    def write(self, message: Message) -> None:
        """Append a message."""
        try:
            self._append(message.to_xml().encode() + b"\n")
            self._failing = False
        except OSError as error:
            telemetry.audit_lost(1)
            if not self._failing:
                log.error("audit file cannot be written", reason=error.strerror)
            self._failing = True

    def close(self) -> None:
        """Do nothing, as no message waits."""

    def _append(self, line: bytes) -> None:
        """Append a line in one write, so that the lines of several processes do not mix."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            _give_to_owner(descriptor, self._path.parent)
            if line:
                os.write(descriptor, line)
        finally:
            os.close(descriptor)


class SyslogDestination:
    """Sends messages to a collector from its own thread (PS3.15 section A.6).

    Over UDP (RFC 5426) losses on the way remain unknown. Over TLS (RFC 5425) messages wait while
    the collector is unreachable.

    Args:
        settings: Address and transport.
        tls: Certificates for TLS; None for the system's authorities.

    Raises:
        ConfigurationError: The files of ``tls`` cannot be used.
    """

    def __init__(self, settings: SyslogSettings, tls: TlsSettings | None) -> None:
        self._settings = settings
        self._context = _context(tls) if settings.transport == "tls" else None
        self._waiting: queue.Queue[bytes | None] = queue.Queue(MAX_QUEUED_MESSAGES)
        self._ending = threading.Event()
        self._connection: socket.socket | None = None
        self._reachable = True
        self._thread = threading.Thread(target=self._run, name="audit-syslog", daemon=True)
        self._thread.start()

    def write(self, message: Message) -> None:
        """Queue a message."""
        try:
            self._waiting.put_nowait(syslog_line(message))
        except queue.Full:
            telemetry.audit_lost(1)

    def close(self) -> None:
        """Give the thread a short time to send waiting messages."""
        self._ending.set()
        with suppress(queue.Full):  # then the thread is sending, and notices the event
            self._waiting.put_nowait(None)
        self._thread.join(FLUSH_SECONDS)
        left = sum(item is not None for item in self._waiting.queue)
        if left:
            telemetry.audit_lost(left)
            log.error("audit messages lost: the collector is away", messages=left)

    def _run(self) -> None:
        while (line := self._waiting.get()) is not None:
            backoff = Backoff(FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS)
            while not self._sent(line):
                if self._ending.wait(backoff.next_seconds()):
                    telemetry.audit_lost(1)
                    break
        self._disconnect()

    def _sent(self, line: bytes) -> bool:
        try:
            self._send(line)
        except OSError as error:
            self._disconnect()
            if self._reachable:
                reason = error.strerror or type(error).__name__
                log.warning("audit collector cannot be reached, messages wait", reason=reason)
            self._reachable = False
            return False
        if not self._reachable:
            log.info("audit collector reached again")
        self._reachable = True
        return True

    def _send(self, line: bytes) -> None:
        if self._connection is not None and self._context and _is_closed(self._connection):
            self._disconnect()
        if self._connection is None:
            self._connection = self._connect()
        # RFC 5425 puts the length before each message; a datagram ends by itself.
        framed = b"%d %b" % (len(line), line) if self._context else line
        self._connection.sendall(framed)

    def _connect(self) -> socket.socket:
        host, port = self._settings.host, self._settings.port
        if self._context is None:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_DGRAM
            )[0]
            plain = socket.socket(family, kind, protocol)
            plain.connect(address)
            return plain
        connection = socket.create_connection((host, port), timeout=NETWORK_SECONDS)
        try:
            return self._context.wrap_socket(connection, server_hostname=host)
        except BaseException:
            connection.close()
            raise

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def syslog_line(message: Message) -> bytes:
    """Format a message by RFC 5424, with the facility and message ID of PS3.15 section A.6."""
    severity = _NOTICE if message.outcome is Outcome.SUCCESS else _WARNING
    when = datetime.fromtimestamp(message.when or time.time(), UTC).isoformat("T", "milliseconds")
    header = (
        f"<{_SECURITY_FACILITY * 8 + severity}>1 {when} {socket.gethostname()} dicom-node"
        f" {os.getpid()} {_MESSAGE_ID} - "
    )
    return header.encode("ascii", "replace") + _BYTE_ORDER_MARK + message.to_xml().encode()


def _give_to_owner(descriptor: int, folder: Path) -> None:
    """Give a file that root has created to the owner of its folder, who writes it otherwise."""
    made, around = os.fstat(descriptor), folder.stat()
    if os.geteuid() == 0 and made.st_size == 0 and made.st_uid != around.st_uid:
        os.fchown(descriptor, around.st_uid, around.st_gid)


def _context(tls: TlsSettings | None) -> ssl.SSLContext:
    return client_context(tls) if tls is not None else public_context()


def _is_closed(connection: socket.socket) -> bool:
    """Whether the collector has closed: it sends nothing else, and the next write would be lost."""
    connection.settimeout(0.0)
    try:
        return not connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(NETWORK_SECONDS)

"""Listening SCP of Storage and Verification: answers success only for images that are durable.

The order for each image is: inbox (written, fsynced, named), ledger, answer 0x0000. A crash before
the answer makes the sender send again, which makes no second copy; a crash after it loses nothing.
Pixels are never decoded here, and this process loads no torch: a busy interpreter would cost it two
thirds of its rate.
"""

from __future__ import annotations

import errno
import select
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    CTImageStorage,
    EnhancedCTImageStorage,
    Verification,
)

from dicom_node import telemetry
from dicom_node.audit import NO_AUDIT, Audit, Peer
from dicom_node.ct.transfer_syntaxes import READABLE, UNCOMPRESSED
from dicom_node.dimse.acceptor_connection import REQUEST_SECONDS, AcceptorConnection
from dicom_node.dimse.services import Service
from dicom_node.logs import get_logger
from dicom_node.receiving.acceptor import Acceptor, Offer
from dicom_node.receiving.admission import ECHO_SLOTS
from dicom_node.receiving.incidents import Incident, IncidentLog
from dicom_node.receiving.listening import listen
from dicom_node.receiving.reception import Reception
from dicom_node.receiving.slots import address_key
from dicom_node.settings import Settings
from dicom_node.tls import handshake_failure

log = get_logger(__name__)

DRAIN_SECONDS = 30.0
"""Time for running associations to finish after the node was asked to stop."""

IDLE_SECONDS = 3.0
"""Time to wait for an association that is only held open, as Orthanc does for a while."""

POLL_SECONDS = 0.2

MAX_PENDING_CONNECTIONS = 32
"""Connections beyond the association slots: those that have not requested an association yet."""

ACCEPT_DELAY_SECONDS = 0.002
"""Delay per association held, so that less busy processes accept first."""


class Receiver:
    """A listening Storage SCP.

    Args:
        settings: Address, AE titles and limits.
        reception: Storage for images.
        tls: TLS context; None for plain connections.
        services: SOP classes that are served besides Storage and Verification.
        audit: Audit trail for received images and permanent rejections.
        listener: A listening socket that several processes share; None: it opens its own.
    """

    def __init__(
        self,
        settings: Settings,
        reception: Reception,
        *,
        tls: ssl.SSLContext | None = None,
        services: Sequence[Service] = (),
        audit: Audit = NO_AUDIT,
        listener: socket.socket | None = None,
    ) -> None:
        self._settings, self._tls, self._listener = settings, tls, listener
        self._is_one_of_many = listener is not None
        self._offer = _offer(settings, reception, services, audit)
        self._max_connections = (
            settings.listen.max_associations + ECHO_SLOTS + MAX_PENDING_CONNECTIONS
        )
        self._connections: dict[threading.Thread, Acceptor | None] = {}
        self._waiting: dict[threading.Thread, tuple[socket.socket, str]] = {}
        self._periodic_work_at = 0.0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept_all, name="listener", daemon=True)

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        if self._listener is None:
            return self._settings.listen.port
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Listen.

        Raises:
            ConfigurationError: The address or port cannot be used.
        """
        if self._listener is None:
            self._listener = listen(self._settings)
        self._listener.setblocking(False)
        self._thread.start()
        host = self._settings.listen.host
        log.info("listening", ae_title=self._settings.ae_title, host=host, port=self.port)

    def stop(self, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Accept no further association, let those with images finish, abort the others."""
        if self._listener is None:
            return
        self._stopping.set()
        self._thread.join()
        self._listener.close()
        begin = time.monotonic()
        while left := self._associations():
            now = time.monotonic()
            last = max(begin, *(item.last_image_at for item in left if item is not None), 0.0)
            if now > begin + drain_seconds or now > last + IDLE_SECONDS:
                self._abort(left)
                break
            time.sleep(POLL_SECONDS)
        self._listener = None
        self._offer.incidents.close()

    def _abort(self, associations: Sequence[Acceptor | None]) -> None:
        log.info("idle connections closed", count=len(associations))
        for association in associations:
            if association is not None:
                association.abort()

    def _associations(self) -> list[Acceptor | None]:
        with self._lock:
            return list(self._connections.values())

    def _accept_all(self) -> None:
        assert self._listener is not None
        while not self._stopping.is_set():
            ready, _, _ = select.select([self._listener], [], [], POLL_SECONDS)
            self._do_periodic_work()
            if not ready or self._stopping.is_set():
                continue
            if self._is_one_of_many:  # the least busy process accepts first
                time.sleep(ACCEPT_DELAY_SECONDS * len(self._connections))
            try:
                transport, address = self._listener.accept()
            except OSError as error:  # another process was faster, the peer hung up, or no files
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    log.error("no connection can be accepted", reason=error.strerror)
                    time.sleep(POLL_SECONDS)
                continue
            self._admit(transport, str(address[0]))

    def _do_periodic_work(self) -> None:
        """Free slots that others wait for, and log counted incidents; several times a second."""
        now = time.monotonic()
        if now < self._periodic_work_at + POLL_SECONDS:
            return
        self._periodic_work_at = now
        self._offer.incidents.sweep()
        for association in self._associations():
            if association is not None:
                association.give_way()

    def _admit(self, transport: socket.socket, host: str) -> None:
        admission = self._offer.reception.admission
        if not admission.is_allowed(host):
            self._refuse(transport, host, "its address is not in accept.hosts", "host")
        elif len(self._connections) >= self._max_connections and not self._make_way():
            admission.note_turned_away()
            self._refuse(transport, host, "too many connections", "connections")
        else:
            self._begin(transport, host)

    def _refuse(self, transport: socket.socket, host: str, reason: str, kind: str) -> None:
        telemetry.association("rejected")
        telemetry.association_refused(kind)
        event = "connection refused"
        alert = f"{event}: {reason}" if kind == "host" else ""
        self._offer.incidents.report(Incident(event, reason, Peer("", host), alert=alert))
        transport.close()

    def _begin(self, transport: socket.socket, host: str) -> None:
        thread = threading.Thread(
            target=self._serve, args=(transport, host), name="association", daemon=True
        )
        with self._lock:
            self._connections[thread] = None
            self._waiting[thread] = transport, address_key(host)
        try:
            thread.start()
        except RuntimeError:  # the system gives no further thread
            log.error("no connection can be accepted", reason="no thread is left")
            self._forget(thread, transport)

    def _make_way(self) -> bool:
        """Close a connection without an association: the oldest of the busiest address."""
        with self._lock:
            idle = {thread: self._waiting[thread][1] for thread in self._without_association()}
            if not idle:
                return False
            crowds = Counter(idle.values())
            thread = max(idle, key=lambda item: crowds[idle[item]])
            transport, address = self._waiting.pop(thread)
        reason = "others wait and it asks for nothing"
        self._offer.incidents.report(Incident("connection closed", reason, Peer("", address)))
        with suppress(OSError):
            transport.shutdown(socket.SHUT_RDWR)
        return True

    def _without_association(self) -> list[threading.Thread]:
        """Threads of connections without an association, the oldest first."""
        served = {t for t, acceptor in self._connections.items() if acceptor and acceptor.has_slot}
        return [thread for thread in self._waiting if thread not in served]

    def _forget(self, thread: threading.Thread, transport: socket.socket) -> None:
        with suppress(OSError):
            transport.close()
        with self._lock:
            self._waiting.pop(thread, None)
            del self._connections[thread]

    def _serve(self, transport: socket.socket, host: str) -> None:
        me = threading.current_thread()
        try:
            secured = self._secured(transport, host)
            if secured is not None:
                acceptor = Acceptor(AcceptorConnection(secured), host, self._offer)
                with self._lock:
                    self._connections[me] = acceptor
                acceptor.run()
        except OSError:
            log.debug("connection lost before it was served", host=host)
        finally:
            self._forget(me, transport)

    def _secured(self, transport: socket.socket, host: str) -> socket.socket | None:
        """The connection after its TLS handshake; None when it failed or nothing was sent."""
        if self._tls is None:
            transport.settimeout(None)
            return transport
        transport.settimeout(REQUEST_SECONDS)
        if not transport.recv(1, socket.MSG_PEEK):
            return None  # a peer that connects and sends nothing is a port check, not an attack
        secured = self._tls.wrap_socket(transport, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._waiting[threading.current_thread()] = secured, address_key(host)
        try:
            secured.settimeout(REQUEST_SECONDS)
            secured.do_handshake()
        except OSError as error:
            telemetry.association("tls_failed")
            reason = handshake_failure(error)
            event = "TLS handshake failed"
            incident = Incident(event, reason, Peer("", host), alert=f"{event}: {reason}")
            self._offer.incidents.report(incident)
            secured.close()
            return None
        return secured


def _offer(
    settings: Settings, reception: Reception, services: Sequence[Service], audit: Audit
) -> Offer:
    classes = [CTImageStorage]
    if settings.accept.enhanced_ct:
        classes.append(EnhancedCTImageStorage)
    return Offer(
        settings=settings,
        reception=reception,
        contexts=[
            *(build_context(sop_class, list(READABLE)) for sop_class in classes),
            build_context(Verification, list(UNCOMPRESSED)),
            *(service.context() for service in services),
        ],
        services={service.sop_class_uid: service for service in services},
        audit=audit,
        incidents=IncidentLog(audit),
    )

"""Storage and Verification SCP: takes CT images in and answers only for what is safely kept.

The order for each image is: inbox (written, fsynced, renamed), ledger, and then 0x0000. A crash
before the answer makes the sender send again, which makes no second copy; a crash after it loses
nothing. Pixels are never decoded here, and this process carries no torch: a busy interpreter would
cost it two thirds of its rate.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable

import pynetdicom
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.ct.syntaxes import READABLE
from dicom_node.errors import ConfigurationError
from dicom_node.ledger.engine import open_ledger
from dicom_node.logs import get_logger
from dicom_node.net.association import ANSWER_SECONDS, PDU_BYTES
from dicom_node.net.reception import OUT_OF_RESOURCES, Reception
from dicom_node.settings import Settings
from dicom_node.store.inbox import Inbox

log = get_logger(__name__)

DRAIN_SECONDS = 30.0
"""How long running associations may go on after the node was told to stop."""

IDLE_SECONDS = 3.0
"""An association that is only held open, as Orthanc does for a while, is not waited for so long."""

POLL_SECONDS = 0.2

_TRANSIENT = 0x02
_PRESENTATION = 0x03
_LOCAL_LIMIT = 0x02

# Titles outside ASCII are wrong (PS3.5, table 6.2-1) but in use; they must not kill an association.
pynetdicom._config.CODECS = ("ascii", "utf-8", "latin-1")
# Log lines of an association name the process too.
pynetdicom._config.PASS_CONTEXTVARS = True


class Receiver:
    """A listening Storage SCP.

    Args:
        settings: Address, titles and limits.
        reception: Keeps what comes in.
    """

    def __init__(self, settings: Settings, reception: Reception) -> None:
        self._settings = settings
        self._reception = reception
        self._entity = _entity(settings)
        self._server: ThreadedAssociationServer | None = None
        self._last_image = time.monotonic()

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        if self._server is None:
            return self._settings.listen.port
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Listen.

        Raises:
            ConfigurationError: The address or port cannot be had.
        """
        listen = self._settings.listen
        try:
            self._server = self._entity.start_server(
                (listen.host, listen.port),
                block=False,
                evt_handlers=[
                    (evt.EVT_C_STORE, self._on_store),
                    (evt.EVT_C_ECHO, _on_echo),
                    (evt.EVT_REQUESTED, self._on_requested),
                    (evt.EVT_REJECTED, _on_rejected),
                    (evt.EVT_ABORTED, _on_aborted),
                ],
            )
        except OSError as error:
            raise _cannot_listen(error, listen.host, listen.port) from error
        log.info("listening", ae_title=self._settings.ae_title, host=listen.host, port=self.port)

    def stop(self, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Take no new association, let those finish on which images come, abort what is left."""
        if self._server is None:
            return
        self._server.shutdown()
        begin = time.monotonic()
        while self._entity.active_associations:
            now = time.monotonic()
            if now > begin + drain_seconds or now > max(begin, self._last_image) + IDLE_SECONDS:
                log.info("idle connections closed", count=len(self._entity.active_associations))
                break
            time.sleep(POLL_SECONDS)
        self._entity.shutdown()
        self._server = None

    def _on_store(self, event: Event) -> int:
        try:
            return self._reception.keep(event)
        except Exception:
            # Whatever is wrong, the sender must learn that the image is not kept; it can retry.
            log.exception("an image could not be kept")
            return OUT_OF_RESOURCES
        finally:
            self._last_image = time.monotonic()

    def _on_requested(self, event: Event) -> None:
        """Refuse a peer that already holds its share, so that one sender cannot starve the rest."""
        request = event.assoc.requestor.primitive
        if request is None:
            return
        calling = str(request.calling_ae_title).strip()
        held = sum(
            other is not event.assoc and other.requestor.ae_title.strip() == calling
            for other in self._entity.active_associations
        )
        if held >= self._settings.listen.max_associations_per_peer:
            log.warning(
                "association refused", calling=calling, reason="the peer's limit is reached"
            )
            event.assoc.acse.send_reject(_TRANSIENT, _PRESENTATION, _LOCAL_LIMIT)
            event.assoc.kill()


def run_receiver(settings: Settings, *, should_stop: Callable[[], bool]) -> None:
    """Receive until told to stop; the body of ``dicom-node receive``.

    Raises:
        ConfigurationError: The address or port cannot be had, or the ledger cannot be opened.
        StorageError: The inbox cannot be written.
    """
    inbox = Inbox(settings.inbox_folder, settings.quarantine_folder)
    ledger = open_ledger(settings.database)
    try:
        left_over = inbox.sweep_leftovers()
        if left_over:
            log.info("unfinished files of an earlier run removed", files=left_over)
        receiver = Receiver(settings, Reception(settings, ledger))
        receiver.start()
        while not should_stop():
            time.sleep(POLL_SECONDS)
        receiver.stop()
    finally:
        ledger.close()


def _entity(settings: Settings) -> AE:
    entity = AE(ae_title=settings.ae_title)
    entity.maximum_associations = settings.listen.max_associations
    entity.maximum_pdu_size = PDU_BYTES
    entity.network_timeout = ANSWER_SECONDS
    entity.require_called_aet = settings.accept.require_called_ae
    entity.require_calling_aet = list(settings.accept.calling)
    entity.add_supported_context(CTImageStorage, list(READABLE))
    entity.add_supported_context(Verification)
    return entity


def _on_echo(event: Event) -> int:
    log.debug("echo", calling=event.assoc.requestor.ae_title)
    return 0x0000


def _on_rejected(event: Event) -> None:
    request, answer = event.assoc.requestor.primitive, event.assoc.acceptor.primitive
    log.warning(
        "association refused",
        calling=getattr(request, "calling_ae_title", "?"),
        called=getattr(request, "called_ae_title", "?"),
        host=event.assoc.requestor.address,
        reason=getattr(answer, "reason_str", "?"),
    )


def _on_aborted(event: Event) -> None:
    calling = event.assoc.requestor.ae_title
    if calling:  # a connection that never asked for an association is a port check
        log.warning("association broken off", calling=calling)


def _cannot_listen(error: OSError, host: str, port: int) -> ConfigurationError:
    if error.errno == errno.EADDRINUSE:
        reason = f"Port {port} on {host} is in use: stop the program that holds it"
    elif error.errno == errno.EACCES:
        reason = f"Port {port} on {host} may not be opened by this user: take one above 1023"
    elif isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        reason = f"{host} is no address of this machine: name one that is"
    else:
        reason = f"The node cannot listen on {host}:{port} ({error.strerror}): free the address"
    return ConfigurationError(f"{reason}, or change `listen` in node.yaml.")

"""The receiver's process, from opening the ledger to the last association."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from functools import partial

from dicom_node.audit import SILENT, Audit
from dicom_node.errors import NodeError
from dicom_node.ledger.engine import Ledger, open_when_ready
from dicom_node.ledger.strays import remove_unentered
from dicom_node.logs import get_logger, reason_of
from dicom_node.net.commitment_service import commitment_service
from dicom_node.net.receiver import POLL_SECONDS, Receiver
from dicom_node.net.reception import Reception
from dicom_node.settings import Settings
from dicom_node.tls_contexts import listening_context

log = get_logger(__name__)

UNKNOWN_SECONDS = 3600.0
"""An image that is not in the ledger after so long has lost its receiver before it was entered."""


def run_receiver(
    settings: Settings,
    *,
    should_stop: Callable[[], bool],
    audit: Audit = SILENT,
    listener: socket.socket | None = None,
) -> None:
    """Receive until told to stop; the body of ``dicom-node receive``.

    Args:
        settings: Address, titles, limits, folders.
        should_stop: Asked several times a second.
        audit: Told of what came in, and of whoever is refused for good.
        listener: A listening socket that is shared with other receiver processes.

    Raises:
        ConfigurationError: The address or port cannot be had, or the ledger cannot be opened.
        StorageError: The inbox cannot be written.
    """
    tls = None
    if settings.listen.tls and settings.tls is not None:
        tls = listening_context(settings.tls)
    ledger = open_when_ready(settings.database, should_stop)
    try:
        reception = Reception(settings, ledger)
        left_over = reception.inbox.sweep_leftovers()
        if left_over:
            log.info("unfinished files of an earlier run removed", files=left_over)
        services = [commitment_service(settings, ledger)]
        receiver = Receiver(
            settings, reception, tls=tls, services=services, audit=audit, listener=listener
        )
        receiver.start()
        _sweep_unknown(reception, ledger)
        while not should_stop():
            time.sleep(POLL_SECONDS)
        receiver.stop()
    finally:
        ledger.close()


def _sweep_unknown(reception: Reception, ledger: Ledger) -> None:
    try:
        swept = reception.inbox.sweep_unknown(
            partial(remove_unentered, ledger), before=time.time() - UNKNOWN_SECONDS
        )
    except (NodeError, OSError) as error:  # it is tried again at the next start
        log.warning("the inbox could not be swept", reason=reason_of(error))
    else:
        if swept:
            log.info("images that were never answered for removed", files=swept)

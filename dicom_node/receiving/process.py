"""The receiver process, from opening the ledger to the last association."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from dicom_node.audit import NO_AUDIT, Audit
from dicom_node.custody import open_custody
from dicom_node.logs import get_logger
from dicom_node.receiving.commitment import commitment_service
from dicom_node.receiving.receiver import POLL_SECONDS, Receiver
from dicom_node.receiving.reception import Reception
from dicom_node.settings import Settings
from dicom_node.tls import server_context

log = get_logger(__name__)


def run_receiver(
    settings: Settings,
    *,
    should_stop: Callable[[], bool],
    audit: Audit = NO_AUDIT,
    listener: socket.socket | None = None,
) -> None:
    """Receive until asked to stop; the body of ``dicom-node receive``.

    Args:
        settings: Address, AE titles, limits, folders.
        should_stop: Called several times a second.
        audit: Audit trail for received images and permanent rejections.
        listener: A listening socket shared with other receiver processes.

    Raises:
        ConfigurationError: The address or port cannot be used, or the ledger cannot be opened.
        StorageError: The inbox cannot be written.
    """
    tls = None
    if settings.listen.tls and settings.tls is not None:
        tls = server_context(settings.tls)
    custody = open_custody(settings, should_stop)
    ledger = custody.ledger
    try:
        reception = Reception(settings, ledger, verify=custody.check)
        _sweep_leftovers(reception)
        services = [commitment_service(settings, ledger)]
        receiver = Receiver(
            settings, reception, tls=tls, services=services, audit=audit, listener=listener
        )
        receiver.start()
        while not should_stop():
            time.sleep(POLL_SECONDS)
        receiver.stop()
    finally:
        ledger.close()


def _sweep_leftovers(reception: Reception) -> None:
    try:
        swept = reception.inbox.sweep_leftovers()
    except OSError as error:  # it is tried again at the next start
        log.warning("unfinished files of an earlier run stay", reason=error.strerror)
    else:
        if swept:
            log.info("unfinished files of an earlier run removed", files=swept)

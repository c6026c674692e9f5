"""The sender process: a courier for every destination with pending deliveries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dicom_node.audit import Audit
from dicom_node.custody import open_custody
from dicom_node.errors import StorageError
from dicom_node.ledger.leases import POLL_SECONDS, OutageLog, owner_name
from dicom_node.ledger.pending import waiting_destinations
from dicom_node.logs import error_location, get_logger
from dicom_node.sending.courier import Courier, SendingContext
from dicom_node.sending.ports import ShouldStop, Transport
from dicom_node.sending.reporter import Reporter
from dicom_node.settings import Settings
from dicom_node.store.outbox import Outbox

log = get_logger(__name__)

DRAIN_SECONDS = 20.0
"""Time for couriers to end their transfers (`STOP_GRACE_SECONDS`) and to disconnect; a peer that
hangs is not waited for."""

REPORT_POLL_SECONDS = 2.0
"""Interval at which the ledger is asked for requests that still need a report."""

_REPORTER = "storage commitment"


class Sender:
    """Run a courier for every destination, in threads beside each other.

    Args:
        context: The resources of this process.
    """

    def __init__(self, context: SendingContext) -> None:
        self._context = context
        self._couriers: dict[str, Courier] = {}
        self._reporter = Reporter(context)
        self._outages: dict[str, OutageLog] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._next_reports = 0.0

    def courier(self, destination: str) -> Courier:
        """Return the courier of a destination; the same one each time."""
        return self._couriers.setdefault(destination, Courier(destination, self._context))

    def send_once(self, should_stop: ShouldStop) -> bool:
        """Make one delivery to each destination in turn; return whether one was made.

        Raises:
            StorageError: The ledger cannot be used.
        """
        names = waiting_destinations(self._context.ledger)
        made = [self.courier(name).deliver(should_stop) for name in names]
        return any(made)

    def start_couriers(self, should_stop: ShouldStop) -> None:
        """Start a courier for each destination with pending deliveries, and the reporter.

        Raises:
            StorageError: The ledger cannot be used.
        """
        for name in waiting_destinations(self._context.ledger):
            courier = self.courier(name)
            if courier.is_due():
                self._start(name, lambda c=courier: c.deliver(should_stop), should_stop)  # type: ignore[misc]
        if time.monotonic() >= self._next_reports:
            self._next_reports = time.monotonic() + REPORT_POLL_SECONDS
            self._start(_REPORTER, self._reporter.report, should_stop)

    def drain(self, seconds: float) -> None:
        """Wait for all threads to end, at most for so long."""
        deadline = time.monotonic() + seconds
        for name, thread in self._threads.items():
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("not waited for any longer", destination=name)

    def _start(self, name: str, step: Callable[[], bool], should_stop: ShouldStop) -> None:
        before = self._threads.get(name)
        if before is not None and before.is_alive():
            return
        outage = self._outages.setdefault(name, OutageLog(destination=name))
        # A daemon: a peer that hangs must not keep the process from ending.
        thread = threading.Thread(
            target=_work, args=(name, step, should_stop, outage), name=name, daemon=True
        )
        self._threads[name] = thread
        thread.start()


def _work(name: str, step: Callable[[], bool], should_stop: ShouldStop, outage: OutageLog) -> None:
    """Repeat a step while it finds something to do."""
    try:
        while not should_stop() and step():
            pass
    except StorageError as error:
        outage.report(error)
    except Exception as error:
        log.error("courier stopped", destination=name, reason=f"unexpected {error_location(error)}")


def run_sender(
    settings: Settings,
    *,
    transport: Transport,
    should_stop: ShouldStop,
    audit: Audit | None = None,
) -> None:
    """Send until ``should_stop``; deliveries in hand are given back after the images under way.

    Args:
        settings: The node's.
        transport: Routes to other systems.
        should_stop: Called between images and while there is nothing to do.
        audit: Records every transfer.

    Raises:
        ConfigurationError: The ledger belongs to another version of this program.
        StorageError: The ledger cannot be opened.
    """
    custody = open_custody(settings, should_stop)
    ledger = custody.ledger
    outbox = Outbox(settings.outbox_folder)
    sender = Sender(SendingContext(ledger, outbox, transport, settings, owner_name(), audit))
    try:
        if not custody.wait(should_stop):
            return
        outage = OutageLog()
        while not should_stop():
            try:
                sender.start_couriers(should_stop)
            except StorageError as error:
                outage.report(error)
            time.sleep(POLL_SECONDS)
        sender.drain(DRAIN_SECONDS)
    finally:
        ledger.close()

"""The process that sends: a courier at work for every destination to which something is owed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dicom_node.audit import Audit
from dicom_node.custody import open_custody
from dicom_node.errors import StorageError
from dicom_node.ledger.deliveries import waiting_destinations
from dicom_node.ledger.leases import POLL_SECONDS, owner_name
from dicom_node.logs import error_location, get_logger
from dicom_node.sending.courier import Courier
from dicom_node.sending.depot import Depot
from dicom_node.sending.ports import ShouldStop, Transport
from dicom_node.sending.reporter import Reporter
from dicom_node.settings import Settings
from dicom_node.store.outbox import Outbox

log = get_logger(__name__)

DRAIN_SECONDS = 20.0
"""Time for couriers to give up what is under way (`STOP_GRACE_SECONDS`) and to connect or hang up;
a peer that hangs is not waited for."""

REPORTS_SECONDS = 2.0
"""How often is asked whether a report on storage commitment is owed."""

_REPORTER = "storage commitment"


class Sender:
    """Keeps a courier for every destination; they work beside each other.

    Args:
        depot: What they work with.
    """

    def __init__(self, depot: Depot) -> None:
        self._depot = depot
        self._couriers: dict[str, Courier] = {}
        self._reporter = Reporter(depot)
        self._threads: dict[str, threading.Thread] = {}
        self._next_reports = 0.0

    def courier(self, destination: str) -> Courier:
        """The courier of a destination; the same one each time."""
        return self._couriers.setdefault(destination, Courier(destination, self._depot))

    def send_once(self, should_stop: ShouldStop) -> bool:
        """Make one delivery to each destination, one after the other; returns whether one was made.

        Raises:
            StorageError: The ledger cannot be used.
        """
        names = waiting_destinations(self._depot.ledger)
        made = [self.courier(name).deliver(should_stop) for name in names]
        return any(made)

    def look_around(self, should_stop: ShouldStop) -> None:
        """Set couriers to work where something is owed and nobody is at work.

        Raises:
            StorageError: The ledger cannot be used.
        """
        for name in waiting_destinations(self._depot.ledger):
            courier = self.courier(name)
            if courier.is_due():
                self._set_to_work(name, lambda c=courier: c.deliver(should_stop), should_stop)  # type: ignore[misc]
        if time.monotonic() >= self._next_reports:
            self._next_reports = time.monotonic() + REPORTS_SECONDS
            self._set_to_work(_REPORTER, self._reporter.report, should_stop)

    def drain(self, seconds: float) -> None:
        """Wait until everybody has laid down work, at most for so long."""
        deadline = time.monotonic() + seconds
        for name, thread in self._threads.items():
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("not waited for any longer", destination=name)

    def _set_to_work(self, name: str, step: Callable[[], bool], should_stop: ShouldStop) -> None:
        before = self._threads.get(name)
        if before is not None and before.is_alive():
            return
        # A daemon: a peer that hangs must not keep the process from ending.
        thread = threading.Thread(
            target=_work, args=(name, step, should_stop), name=name, daemon=True
        )
        self._threads[name] = thread
        thread.start()


def _work(name: str, step: Callable[[], bool], should_stop: ShouldStop) -> None:
    """Repeat a step while it finds something to do."""
    try:
        while not should_stop() and step():
            pass
    except StorageError as error:
        log.error("waiting for the disk", destination=name, reason=str(error))
    except Exception as error:
        log.error("courier stopped", destination=name, reason=f"unexpected {error_location(error)}")


def run_sender(
    settings: Settings,
    *,
    transport: Transport,
    should_stop: ShouldStop,
    audit: Audit | None = None,
) -> None:
    """Send until told to stop; deliveries in hand are given back after the images under way.

    Args:
        settings: The node's.
        transport: The ways to other systems.
        should_stop: Asked between images and while there is nothing to do.
        audit: Told of every transfer.

    Raises:
        ConfigurationError: The ledger belongs to another version of this program.
        StorageError: The ledger cannot be opened.
    """
    custody = open_custody(settings, should_stop)
    ledger = custody.ledger
    outbox = Outbox(settings.outbox_folder)
    sender = Sender(Depot(ledger, outbox, transport, settings, owner_name(), audit))
    try:
        if not custody.wait(should_stop):
            return
        while not should_stop():
            try:
                sender.look_around(should_stop)
            except StorageError as error:
                log.error("waiting for the disk", reason=str(error))
            time.sleep(POLL_SECONDS)
        sender.drain(DRAIN_SECONDS)
    finally:
        ledger.close()

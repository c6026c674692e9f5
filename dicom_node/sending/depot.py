"""What everything that sends works with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from dicom_node.audit import Audit
from dicom_node.ledger.engine import Ledger
from dicom_node.sending.ports import Transport
from dicom_node.settings import Settings
from dicom_node.store.outbox import Outbox


@dataclass(frozen=True)
class Depot:
    """What couriers and reporter share.

    Attributes:
        ledger: Where deliveries and reports are claimed.
        outbox: Where the derived images are.
        transport: The ways to other systems.
        settings: Peers, own AE title, retries.
        owner: Name of this process in the ledger.
        audit: Told of every transfer.
        clock: Seconds since 1970.
    """

    ledger: Ledger
    outbox: Outbox
    transport: Transport
    settings: Settings
    owner: str
    audit: Audit | None = None
    clock: Callable[[], float] = time.time

"""Workers with the models of ``man_core``."""

from __future__ import annotations

from dicom_node.denoising.models import ModelDenoise
from dicom_node.denoising.worker import Worker
from dicom_node.settings import Settings
from support.ledger_factory import NodeFixture


def model_worker(node: NodeFixture, now: float, settings: Settings | None = None) -> Worker:
    """A worker of a node at a moment.

    Args:
        node: Its ledger and folders.
        now: The moment, seconds since 1970.
        settings: Settings of the denoising, if other than the node's.
    """
    return Worker(
        node.ledger,
        node.inbox,
        node.outbox,
        node.settings.reports_folder,
        ModelDenoise(settings or node.settings),
        node.settings.retry,
        clock=lambda: now,
    )

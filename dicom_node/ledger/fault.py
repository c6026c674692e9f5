"""Faults of leased work: whether to try again, when, and at whose expense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from dicom_node.errors import DeviceFault, NodeError
from dicom_node.ledger.model import Delivery, Job
from dicom_node.logs import error_location
from dicom_node.settings import RetrySettings


@dataclass(frozen=True)
class Fault:
    """An error, and what follows from it.

    Attributes:
        reason: One sentence without words that may quote a header.
        passing: Whether the work is tried again.
        counted: Whether the attempt is spent.
        delay_seconds: Pause before the next attempt.
    """

    reason: str
    passing: bool
    counted: bool
    delay_seconds: float

    @classmethod
    def of(cls, error: Exception, work: Job | Delivery, retry: RetrySettings) -> Self:
        """Judge an error of a job or delivery.

        An error that this program foresees says itself whether it passes; a full disk passes,
        however long it takes. Any other (of a driver, of the memory, of this program) may pass, so
        the work is tried again until its attempts are spent.
        """
        delay = retry.delay_seconds(work.attempts + work.waits)
        device = isinstance(error, DeviceFault)  # which may be the work's own doing
        known = isinstance(error, NodeError) and not device
        if isinstance(error, NodeError) and known and not (error.transient and error.counted):
            return cls(str(error), error.transient, False, delay)
        reason = str(error) if known or device else f"unexpected {error_location(error)}"
        if isinstance(error, MemoryError):
            reason = "the machine has not enough free memory for it"
        if work.attempts < retry.attempts:
            return cls(reason, True, True, delay)
        end = "." if reason.endswith(".") else ""
        reason = f"{reason.removesuffix('.')} (after {work.attempts} attempts){end}"
        return cls(reason, False, True, delay)

"""Sweeps that return work to its queues: lost leases, elapsed delays, overdue commitments."""

from __future__ import annotations

from dicom_node.crashes import crash_causes
from dicom_node.ledger.clock_repair import ClockStep, correct_clock, follow_clock
from dicom_node.ledger.commitments import overdue
from dicom_node.ledger.engine import Ledger
from dicom_node.ledger.leases import is_dead
from dicom_node.ledger.operations import release_lost_leases, wake_waiting
from dicom_node.logs import get_logger
from dicom_node.settings import PeerSettings, Settings

log = get_logger(__name__)


class Queue:
    """Returns jobs and deliveries to their queues.

    Args:
        ledger: The ledger.
        settings: Limits of attempts and delays.
    """

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger, self._settings = ledger, settings
        delays = [p.commitment_seconds for p in settings.peers if isinstance(p, PeerSettings)]
        self._max_plan_seconds = max(settings.retry.longest_delay_seconds, *delays, 0.0)

    def release_leases(self, now: float) -> None:
        """Return the jobs whose processes died, or whose leases ran out."""
        for job in release_lost_leases(
            self._ledger,
            now=now,
            attempts=self._settings.retry.attempts,
            is_dead=is_dead,
            crash=crash_causes(self._settings.crashes_folder, is_dead),
        ):
            log.warning(
                "job taken back: its process died or its lease ran out", job=job.id, state=job.state
            )

    def wake_jobs(self, now: float) -> None:
        """Return jobs to their queue whose retry delay is over."""
        for job in wake_waiting(self._ledger, now=now):
            log.info("job tried again", job=job.id, state=job.state, attempt=job.attempts + 1)

    def end_commitments(self, now: float) -> None:
        """Return deliveries whose storage commitment is overdue, to request it again."""
        for delivery in overdue(self._ledger, now=now, retry=self._settings.retry):
            log.warning(
                "storage commitment overdue",
                job=delivery.job_id,
                destination=delivery.destination,
                state=delivery.state,
            )

    def follow_clock(self, step: ClockStep) -> None:
        """Adapt the times of waiting work to a step of the clock.

        Raises:
            StorageError: The ledger cannot be used.
        """
        follow_clock(self._ledger, step)

    def correct_clock(self, now: float) -> None:
        """Correct planned times from before the clock was set back."""
        plans = correct_clock(self._ledger, max_plan_seconds=self._max_plan_seconds, now=now)
        if plans:
            log.warning("the clock was set back: plans brought forward", plans=plans)

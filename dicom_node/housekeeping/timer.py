"""Timer of the sweeps. APScheduler is only a timer: the ledger is the queue.

APScheduler schedules by the wall clock; after each step of the clock all sweeps are rescheduled.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC

from apscheduler.schedulers.background import BackgroundScheduler

from dicom_node.heartbeat import SweepBeats
from dicom_node.housekeeping.clock_watch import ClockWatch
from dicom_node.logs import get_logger, reason_of

log = get_logger(__name__)

REPEAT_SECONDS = 60.0
"""Time after which a sweep that still fails for the same reason is logged again."""

Sweep = Callable[[float], None]


@dataclass(frozen=True)
class ScheduledSweep:
    """A sweep and its interval.

    Attributes:
        sweep: Function that is called with the time.
        seconds: Interval between two runs.
        time: The watch's method that gives the time; by default the wall clock.
    """

    sweep: Sweep
    seconds: float
    time: Callable[[ClockWatch], float] = ClockWatch.now

    @property
    def name(self) -> str:
        """Name of the sweep."""
        return self.sweep.__name__


class SweepTimer:
    """Runs each sweep at its interval, whatever happens to the clock.

    Args:
        sweeps: The sweeps.
        watch: The clock.
        beats: Recorder of the sweeps' heartbeats.
    """

    def __init__(
        self, sweeps: tuple[ScheduledSweep, ...], watch: ClockWatch, beats: SweepBeats
    ) -> None:
        self._sweeps, self._watch, self._beats = sweeps, watch, beats
        self._scheduled_at_step = watch.steps
        self._failures: dict[str, tuple[str, int]] = {}
        self._timer = BackgroundScheduler(
            timezone=UTC,
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        for item in sweeps:
            self._timer.add_job(self.run, "interval", (item,), seconds=item.seconds, id=item.name)

    def start(self) -> None:
        """Start the timer; each sweep first runs after its interval."""
        try:
            self._beats.begin({item.name: item.seconds for item in self._sweeps})
        except OSError as error:  # a full disk must not keep the housekeeping from freeing space
            log.warning("sweeps do not beat", reason=error.strerror)
        self._timer.start()

    def follow_clock(self) -> None:
        """Check the clock for steps; to be called several times a second."""
        try:
            self._watch.now()
        except Exception as error:
            log.error("the clock was set and the ledger cannot follow", reason=reason_of(error))
        steps = self._watch.steps
        if steps != self._scheduled_at_step:
            self._scheduled_at_step = steps
            for item in self._sweeps:
                self._timer.reschedule_job(item.name, trigger="interval", seconds=item.seconds)

    def stop(self) -> None:
        """Stop the timer after the sweeps in progress."""
        self._timer.shutdown(wait=True)

    def run(self, item: ScheduledSweep) -> None:
        """Run one sweep; a failure is logged, and the next run tries again.

        A failed sweep records no heartbeat, so that the health check reports it.
        """
        with suppress(OSError):
            self._beats.ensure(item.name)
        try:
            item.sweep(item.time(self._watch))
        except Exception as error:
            self._log_failure(item, reason_of(error))
        else:
            self._failures.pop(item.name, None)
            with suppress(OSError):
                self._beats.beat(item.name)

    def _log_failure(self, item: ScheduledSweep, reason: str) -> None:
        """Log a failure, and repetitions for the same reason once a minute."""
        before, runs = self._failures.get(item.name, ("", 0))
        runs = runs + 1 if before == reason else 0
        self._failures[item.name] = reason, runs
        if runs * item.seconds % REPEAT_SECONDS < item.seconds:
            log.error("sweep failed", sweep=item.name, reason=reason)

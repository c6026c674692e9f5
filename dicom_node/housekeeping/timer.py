"""The sweeps' timer. APScheduler is a timer only, never a queue: the ledger is the queue.

APScheduler plans by the wall clock; whenever that is set, everything is planned anew.
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
class Round:
    """A sweep and how often it runs.

    Attributes:
        sweep: Called with the moment that ``time`` tells; its name names the round.
        seconds: Between two runs.
        time: One of the watch's times; the wall clock's unless given.
    """

    sweep: Sweep
    seconds: float
    time: Callable[[ClockWatch], float] = ClockWatch.now

    @property
    def name(self) -> str:
        """Of the sweep."""
        return self.sweep.__name__


class Rounds:
    """Runs each sweep at its interval, whatever is done to the clock.

    Args:
        rounds: The sweeps.
        watch: Tells the time.
        beats: Notes that a sweep has ended well.
    """

    def __init__(self, rounds: tuple[Round, ...], watch: ClockWatch, beats: SweepBeats) -> None:
        self._rounds, self._watch, self._beats = rounds, watch, beats
        self._planned_at_step = watch.steps
        self._failures: dict[str, tuple[str, int]] = {}
        self._timer = BackgroundScheduler(
            timezone=UTC,
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        for item in rounds:
            self._timer.add_job(self.run, "interval", (item,), seconds=item.seconds, id=item.name)

    def start(self) -> None:
        """Begin; the first runs are an interval away."""
        try:
            self._beats.begin({item.name: item.seconds for item in self._rounds})
        except OSError as error:  # a full disk must not keep the housekeeping from making room
            log.warning("sweeps do not beat", reason=error.strerror)
        self._timer.start()

    def follow_clock(self) -> None:
        """Look at the clock; to be called several times a second."""
        try:
            self._watch.now()
        except Exception as error:
            log.error("the clock was set and the ledger cannot follow", reason=reason_of(error))
        steps = self._watch.steps
        if steps != self._planned_at_step:
            self._planned_at_step = steps
            for item in self._rounds:
                self._timer.reschedule_job(item.name, trigger="interval", seconds=item.seconds)

    def stop(self) -> None:
        """End; the sweeps under way are finished."""
        self._timer.shutdown(wait=True)

    def run(self, item: Round) -> None:
        """Run one sweep; what goes wrong is told, and the next run tries again.

        One that fails does not beat: the health check misses it.
        """
        try:
            item.sweep(item.time(self._watch))
        except Exception as error:
            self._tell(item, reason_of(error))
        else:
            self._failures.pop(item.name, None)
            with suppress(OSError):
                self._beats.beat(item.name)

    def _tell(self, item: Round, reason: str) -> None:
        """Log a failure, and of those that follow for the same reason one a minute."""
        told, runs = self._failures.get(item.name, ("", 0))
        runs = runs + 1 if told == reason else 0
        self._failures[item.name] = reason, runs
        if runs * item.seconds % REPEAT_SECONDS < item.seconds:
            log.error("sweep failed", sweep=item.name, reason=reason)

"""A clock that is set while the node runs: nothing early, nothing late, nothing lost."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, tzinfo
from typing import Self

import apscheduler.schedulers.base
import apscheduler.triggers.interval
import pytest
from support.ledger_factory import START, House, NodeFixture, later
from support.peers import wait_until

from dicom_node.errors import StorageError
from dicom_node.housekeeping import run_housekeeping
from dicom_node.housekeeping.clock_watch import GRACE_SECONDS, ClockWatch
from dicom_node.housekeeping.completion import Completion
from dicom_node.housekeeping.queue import Queue
from dicom_node.housekeeping.retention import SECONDS_PER_DAY
from dicom_node.ledger.deliveries import claim_delivery
from dicom_node.ledger.measures import waiting
from dicom_node.ledger.operations import get_job, list_jobs
from dicom_node.ledger.pauses import pause
from dicom_node.ledger.series import list_series
from dicom_node.ledger.states import JobState, SeriesState

HOUR = 3600.0
STEPS = [HOUR, -HOUR, 10 * SECONDS_PER_DAY, -10 * SECONDS_PER_DAY]


class Clocks:
    """A wall clock that can be set, and a monotonic one."""

    def __init__(self) -> None:
        self.wall, self.monotonic = START, 500.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def watch(self, node: NodeFixture) -> ClockWatch:
        queue = Queue(node.ledger, node.settings)
        return ClockWatch(
            queue.follow_clock, wall=lambda: self.wall, monotonic=lambda: self.monotonic
        )


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def house(node: NodeFixture) -> House:
    return House(node)


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds by which this process's wall clock is ahead: set its only item."""
    ahead, real = [0.0], time.time

    class Set(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(seconds=ahead[0])

    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])
    monkeypatch.setitem(ClockWatch.__init__.__kwdefaults__, "wall", time.time)
    for module in (apscheduler.schedulers.base, apscheduler.triggers.interval):
        monkeypatch.setattr(module, "datetime", Set)
    return ahead


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
def test_the_housekeeping_goes_on_when_the_clock_is_set(
    node: NodeFixture,
    set_clock: list[float],
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
) -> None:
    """APScheduler alone would wait until the clock is where it was."""
    swept, ended = threading.Event(), threading.Event()
    sweep = Completion.complete_series

    def complete(self: Completion, now: float) -> None:
        sweep(self, now)
        swept.set()

    monkeypatch.setattr(Completion, "complete_series", complete)
    keeper = threading.Thread(
        target=run_housekeeping, args=(node.settings,), kwargs={"should_stop": ended.is_set}
    )
    keeper.start()
    try:
        assert swept.wait(30)
        set_clock[0] = seconds
        node.arrive_series(now=time.time() - 11)
        wait_until("the series has its job", lambda: list_jobs(node.ledger), 20)
    finally:
        ended.set()
        keeper.join()


@pytest.mark.parametrize("step", STEPS)
def test_half_a_series_waits_for_the_other_half(
    node: NodeFixture, house: House, clocks: Clocks, step: float
) -> None:
    watch = clocks.watch(node)
    node.arrive_series(slices=4, now=watch.now())
    clocks.pass_by(5)
    clocks.wall += step
    house.complete_series(watch.now())
    clocks.pass_by(4)
    house.complete_series(watch.now())
    (series,) = list_series(node.ledger)
    assert series.state == SeriesState.ARRIVING, "quiet for nine seconds of ten"
    clocks.pass_by(1)
    house.complete_series(watch.now())
    assert [job.state for job in list_jobs(node.ledger)] == [JobState.QUEUED]


@pytest.mark.parametrize("step", STEPS)
def test_whoever_works_keeps_the_lease_and_whoever_died_loses_it(
    node: NodeFixture, house: House, clocks: Clocks, step: float
) -> None:
    watch = clocks.watch(node)
    alive, dead = (node.job(series_uid=uid, now=watch.now()).id for uid in ("1.2", "1.3"))
    claim = node.claim_job(watch.now(), owner="alive")
    assert node.claim_job(watch.now(), owner="dead").id == dead
    clocks.pass_by(30)
    clocks.wall += step
    house.release_leases(watch.now())
    assert get_job(node.ledger, alive).state == get_job(node.ledger, dead).state == "DENOISING"
    for _ in range(4):
        clocks.pass_by(20)
        assert later(claim, watch.now()).beat()
        house.release_leases(watch.now())
    assert get_job(node.ledger, alive).state == JobState.DENOISING
    assert get_job(node.ledger, dead).state == JobState.QUEUED


@pytest.mark.parametrize("step", STEPS)
def test_a_retry_waits_as_long_as_was_planned(
    node: NodeFixture, house: House, clocks: Clocks, step: float
) -> None:
    watch = clocks.watch(node)
    now, ledger = watch.now(), node.ledger
    id_ = node.job(now=now).id
    node.claim_job(now).retry_later("the disk is full", delay_seconds=100)
    clocks.wall += step
    clocks.pass_by(98)
    house.wake_jobs(watch.now())
    assert get_job(ledger, id_).state == JobState.RETRY_WAIT
    clocks.pass_by(2)
    house.wake_jobs(watch.now())
    assert get_job(ledger, id_).state == JobState.QUEUED


@pytest.mark.parametrize("step", STEPS)
def test_a_delivery_waits_as_long_as_was_planned(
    node: NodeFixture, clocks: Clocks, step: float
) -> None:
    watch = clocks.watch(node)
    now, ledger = watch.now(), node.ledger
    node.job(now=now)
    node.claim_job(now).derived(1)
    node.claim_delivery("pacs", now).retry_later("away", delay_seconds=100)
    clocks.pass_by(50)
    clocks.wall += step
    assert claim_delivery(ledger, "pacs", owner="s", clock=watch.now) is None
    clocks.pass_by(50)
    assert claim_delivery(ledger, "pacs", owner="s", clock=watch.now) is not None


@pytest.mark.parametrize("step", STEPS)
def test_ages_stay_what_they_are(node: NodeFixture, clocks: Clocks, step: float) -> None:
    watch = clocks.watch(node)
    node.job(now=watch.now())
    node.arrive(series_uid="1.9", now=watch.now())
    pause(node.ledger, "send", reason="the PACS is moved", now=watch.now())
    clocks.pass_by(60)
    clocks.wall += step
    now, found = watch.now(), waiting(node.ledger)
    assert now - (found.denoise or 0.0) == pytest.approx(60)
    assert now - (found.arriving or 0.0) == pytest.approx(60)


def test_what_another_process_wrote_by_the_new_time_stays(
    node: NodeFixture, house: House, clocks: Clocks
) -> None:
    """A receiver may be faster than the housekeeping."""
    watch = clocks.watch(node)
    node.arrive_series(slices=3, now=clocks.wall)
    clocks.pass_by(5)
    clocks.wall += HOUR
    node.arrive(series_uid="1.9", now=clocks.wall)
    clocks.pass_by(0.2)
    watch.now()
    arrived = {series.series_uid: series.last_arrival_at for series in list_series(node.ledger)}
    assert arrived.pop("1.9") == clocks.wall - 0.2
    assert list(arrived.values()) == [pytest.approx(clocks.wall - 5.2)]


@pytest.mark.parametrize("step", [HOUR, 10 * SECONDS_PER_DAY])
def test_nothing_is_deleted_for_an_age_that_it_has_not(
    node: NodeFixture, house: House, clocks: Clocks, step: float
) -> None:
    watch = clocks.watch(node)
    node.arrive(b"no image", now=watch.now())
    clocks.pass_by(20)
    house.complete_series(watch.now())
    clocks.wall += step
    house.enforce_retention(watch.unhurried())
    assert [series.state for series in list_series(node.ledger)] == [SeriesState.SKIPPED]
    clocks.pass_by(GRACE_SECONDS)
    clocks.pass_by(3 * SECONDS_PER_DAY)
    house.enforce_retention(watch.unhurried())
    assert [series.state for series in list_series(node.ledger)] == [SeriesState.PURGED]


def test_a_ledger_that_is_away_when_the_clock_is_set_follows_later(clocks: Clocks) -> None:
    taken: list[float] = []
    away = [True]

    def repair(step: object) -> None:
        if away[0]:
            raise StorageError("the ledger cannot be used.")
        taken.append(getattr(step, "by_seconds", 0.0))

    watch = ClockWatch(repair, wall=lambda: clocks.wall, monotonic=lambda: clocks.monotonic)
    clocks.wall -= HOUR
    for _ in range(2):
        with pytest.raises(StorageError):
            watch.now()
        clocks.pass_by(1)
    away[0] = False
    watch.now()
    watch.now()
    assert taken == [-HOUR]


def test_a_process_that_was_stopped_sees_no_step(clocks: Clocks) -> None:
    """SIGSTOP between the looks at both clocks, and for long between two looks."""
    steps: list[object] = []
    stopped = [0.0]

    def wall() -> float:
        clocks.pass_by(stopped[0])
        stopped[0] = 0.0
        return clocks.wall

    watch = ClockWatch(steps.append, wall=wall, monotonic=lambda: clocks.monotonic)
    stopped[0] = 600.0
    watch.now()
    clocks.pass_by(600)
    watch.now()
    assert steps == []

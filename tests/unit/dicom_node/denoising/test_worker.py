"""The worker: results, faults, stopping, and what is never done twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from pydicom import dcmread
from support.ledger_factory import START, House, NodeFixture
from support.worker_stub import CopyDenoise
from support.workers import model_worker

from dicom_node.denoising.models import ModelDenoise
from dicom_node.denoising.worker import Denoise, Worker
from dicom_node.errors import DeviceFault, InputError, ModelUnavailable, StorageError
from dicom_node.ledger.jobs import enqueue, source_names
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import (
    cancel,
    get_job,
    list_jobs,
    release_lost_leases,
    wake_waiting,
)
from dicom_node.ledger.states import JobState
from dicom_node.settings import OffPeakSettings
from dicom_node.work_order import Priority, WorkOrder


def worker(
    node: NodeFixture,
    denoise: Denoise,
    owner: str = "w",
    off_peak: OffPeakSettings | None = None,
    now: float = START,
) -> Worker:
    return Worker(
        node.ledger,
        node.inbox,
        node.outbox,
        node.settings.reports_folder,
        denoise,
        node.settings.retry,
        off_peak=off_peak,
        owner=owner,
        clock=lambda: now,
    )


def never() -> bool:
    return False


def raising(error: Exception) -> CopyDenoise:
    def act(_job: Job, _should_stop: Callable[[], bool]) -> None:
        raise error

    return CopyDenoise(act)


def test_a_series_becomes_a_durable_result(node: NodeFixture) -> None:
    queued = node.job()
    assert worker(node, CopyDenoise()).work_once(never)
    job = get_job(node.ledger, queued.id)
    assert (job.state, job.derived_count, job.attempts, job.owner) == (JobState.DERIVED, 1, 0, None)
    (file,) = node.outbox.committed(job.token)
    (source,) = source_names(node.ledger, job)
    assert file.read_bytes() == node.inbox.path(source).read_bytes()
    assert (node.settings.reports_folder / f"{job.token}.json").is_file()


def test_a_worker_without_a_job_returns_false(node: NodeFixture) -> None:
    assert not worker(node, CopyDenoise()).work_once(never)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (InputError("two orientations"), JobState.FAILED),
        (ModelUnavailable("no such model"), JobState.FAILED),
        (OSError(28, "No space left on device"), JobState.RETRY_WAIT),
        (RuntimeError("out of memory"), JobState.RETRY_WAIT),
    ],
)
def test_a_fault_leaves_no_half_result(
    node: NodeFixture, error: Exception, state: JobState
) -> None:
    queued = node.job()
    assert worker(node, raising(error)).work_once(never)
    assert get_job(node.ledger, queued.id).state == state
    assert list(node.outbox.root.iterdir()) == []


def test_a_stopped_worker_gives_the_job_back(node: NodeFixture) -> None:
    queued = node.job()
    stop: list[bool] = []

    def act(_job: Job, should_stop: Callable[[], bool]) -> None:
        assert not should_stop()
        stop.append(True)
        assert should_stop()
        raise RuntimeError("stopped")

    worker(node, CopyDenoise(act)).work_once(lambda: bool(stop))
    job = get_job(node.ledger, queued.id)
    assert (job.state, job.attempts) == (JobState.QUEUED, 0)
    assert list(node.outbox.root.iterdir()) == []


def test_a_cancelled_job_is_left_alone(node: NodeFixture) -> None:
    queued = node.job()
    denoise = CopyDenoise(lambda job, _should_stop: void(cancel(node.ledger, job.id, now=START)))
    worker(node, denoise).work_once(never)
    assert get_job(node.ledger, queued.id).state == JobState.CANCELLED


def void(_value: object) -> None:
    """Forget a result where a callback must not give one."""


def test_two_workers_on_one_job_make_one_result(node: NodeFixture) -> None:
    """The first is taken for dead while it works on; the second does the job."""
    queued = node.job()
    second = CopyDenoise()

    def act(_job: Job, _should_stop: Callable[[], bool]) -> None:
        release_lost_leases(node.ledger, now=START + 1000, attempts=3)
        assert worker(node, second, owner="w2").work_once(never)

    worker(node, CopyDenoise(act)).work_once(never)
    job = get_job(node.ledger, queued.id)
    assert (job.state, job.derived_count) == (JobState.DERIVED, 1)
    assert node.outbox.tokens() == {job.token}
    assert len(list(node.outbox.root.iterdir())) == 1


def test_a_whole_result_is_never_made_twice(node: NodeFixture) -> None:
    """Killed between the rename of the result and its entry in the ledger."""
    queued = node.job()
    node.claim_job(owner="dead")
    staging = node.outbox.stage(queued.token)
    (staging / "0001.dcm").write_bytes(b"derived")
    node.outbox.commit(queued.token, staging)
    release_lost_leases(node.ledger, now=START, attempts=3, is_dead=lambda owner: True)
    denoise = CopyDenoise()
    assert worker(node, denoise).work_once(never)
    assert denoise.calls == 0
    assert get_job(node.ledger, queued.id).state == JobState.DERIVED


def test_a_real_series_is_denoised_by_the_core(node: NodeFixture) -> None:
    uid = node.arrive_series(slices=3)
    house = House(node)
    house.complete_series(START + 10)
    (queued,) = list_jobs(node.ledger)
    assert model_worker(node, START + 10).work_once(never)
    job = get_job(node.ledger, queued.id)
    assert (job.state, job.derived_count) == (JobState.DERIVED, 3)
    derived = [dcmread(path) for path in node.outbox.committed(job.token)]
    assert {dataset.ImageType[0] for dataset in derived} == {"DERIVED"}
    assert uid not in {dataset.SeriesInstanceUID for dataset in derived}
    report = json.loads((node.settings.reports_folder / f"{job.token}.json").read_text())
    assert (report["model"], report["files"]) == ("identity", 3)


def test_an_unknown_model_is_refused_before_work_begins(node: NodeFixture) -> None:
    wrong = node.settings.model.model_copy(update={"name": "no-such-model"})
    with pytest.raises(ModelUnavailable, match="no-such-model"):
        ModelDenoise(node.settings.model_copy(update={"model": wrong}))


def test_a_full_disk_spends_no_attempt(node: NodeFixture) -> None:
    queued = node.job()
    for moment in range(2 * node.settings.retry.attempts):
        now = START + 1000 * moment
        wake_waiting(node.ledger, now=now)
        assert worker(node, raising(StorageError("no room")), now=now).work_once(never)
    job = get_job(node.ledger, queued.id)
    assert (job.state, job.attempts) == (JobState.RETRY_WAIT, 0)


def test_a_device_that_fails_ends_the_worker_and_the_job_waits(node: NodeFixture) -> None:
    """What CUDA leaves behind is of no use to this process; its supervisor starts another."""
    queued, states = node.job(), []
    for moment in range(node.settings.retry.attempts):
        now = START + 1000 * moment
        wake_waiting(node.ledger, now=now)
        with pytest.raises(DeviceFault):
            worker(node, raising(DeviceFault("the device failed")), now=now).work_once(never)
        states.append(get_job(node.ledger, queued.id).state)
    assert states == [JobState.RETRY_WAIT, JobState.RETRY_WAIT, JobState.FAILED]


def test_off_peak_jobs_wait_for_their_hours_and_urgent_ones_go_first(node: NodeFixture) -> None:
    slow, normal, urgent = (
        node.job(series_uid=f"1.{priority}", priority=priority, now=START)
        for priority in (Priority.OFF_PEAK, Priority.NORMAL, Priority.URGENT)
    )
    clock = time.localtime(START)
    within = OffPeakSettings.model_validate(
        {"begin": f"{clock.tm_hour:02}:00", "end": f"{(clock.tm_hour + 1) % 24:02}:00"}
    )
    without = OffPeakSettings(begin=within.end, end=within.begin)
    order: list[int] = []
    denoise = CopyDenoise(lambda job, _should_stop: order.append(job.id))
    while worker(node, denoise, off_peak=without).work_once(never):
        pass
    assert order == [urgent.id, normal.id]
    assert worker(node, denoise, off_peak=within).work_once(never)
    assert order[-1] == slow.id


def test_late_slices_alone_are_derived_and_the_whole_series_is_checked(node: NodeFixture) -> None:
    node.arrive(b"first", sop_uid="1.2.1", now=START - 100)
    (series,) = node.complete(START)
    enqueue(node.ledger, series, WorkOrder("identity", 1.0, ("pacs",)), now=START)
    assert worker(node, CopyDenoise()).work_once(never)
    node.arrive(b"late", sop_uid="1.2.2", now=START + 100)
    (series,) = node.complete(START + 200)
    enqueue(node.ledger, series, WorkOrder("identity", 1.0, ("pacs",)), now=START + 200)
    denoise = CopyDenoise()
    assert worker(node, denoise).work_once(never)
    assert sorted(path.read_bytes()[132:] for path in denoise.given) == [b"first", b"late"]
    assert [path.read_bytes()[132:] for path in denoise.only or ()] == [b"late"]


def test_late_slices_that_join_no_earlier_result_cost_one_run(node: NodeFixture) -> None:
    """That another label makes another series is known before anything is denoised."""
    node.arrive(b"first", sop_uid="1.2.1", now=START - 100)
    (series,) = node.complete(START)
    enqueue(node.ledger, series, WorkOrder("identity", 1.0, ("pacs",)), now=START)
    assert worker(node, CopyDenoise(uid="1.9.1")).work_once(never)
    node.arrive(b"late", sop_uid="1.2.2", now=START + 100)
    (series,) = node.complete(START + 200)
    enqueue(node.ledger, series, WorkOrder("identity", 1.0, ("pacs",)), now=START + 200)
    denoise = CopyDenoise(uid="1.9.2")
    assert worker(node, denoise).work_once(never)
    assert (denoise.calls, denoise.only) == (1, None)
    assert sorted(path.read_bytes()[132:] for path in denoise.given) == [b"first", b"late"]

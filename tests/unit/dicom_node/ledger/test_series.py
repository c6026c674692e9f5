"""Series in the ledger: arrival, quiet time, late slices, skipping, purging."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.ledger_factory import START, NodeFixture

from dicom_node.ledger.arrivals import Arrival, Recorded, record_instances
from dicom_node.ledger.deliveries import Sent
from dicom_node.ledger.jobs import enqueue, fresh_names, source_names
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import cancel, get_job
from dicom_node.ledger.purging import purge_old_series
from dicom_node.ledger.series import Series, complete, list_series, quiet_series, skip
from dicom_node.ledger.states import JobState, SeriesState
from dicom_node.work_order import WorkOrder


def enqueued(node: NodeFixture, series: Series, now: float) -> Job:
    job = enqueue(node.ledger, series, WorkOrder("identity", 1.0, ("pacs",)), now=now)
    assert job is not None
    return job


def only(node: NodeFixture) -> Series:
    (series,) = list_series(node.ledger)
    return series


def test_an_image_is_new_once(node: NodeFixture) -> None:
    assert node.arrive() is Recorded.NEW
    assert node.arrive() is Recorded.DUPLICATE
    assert only(node).names == (node.store(b"pixels").name,)


def test_other_bytes_under_a_known_uid_are_a_conflict(node: NodeFixture) -> None:
    node.arrive(b"one")
    assert node.arrive(b"two") is Recorded.CONFLICT
    assert only(node).names == (node.store(b"one").name,)


def test_the_same_uid_in_another_series_is_kept_apart(node: NodeFixture) -> None:
    assert node.arrive(b"one", series_uid="1.2") is Recorded.NEW
    assert node.arrive(b"two", series_uid="1.3") is Recorded.NEW
    assert len(list_series(node.ledger)) == 2


def test_nothing_is_entered_whose_file_is_gone(node: NodeFixture) -> None:
    stored = node.store(b"pixels")
    stored.path.unlink()
    assert node.record(stored) is Recorded.GONE
    assert list_series(node.ledger) == []


def test_every_image_restarts_the_quiet_time(node: NodeFixture) -> None:
    node.arrive(sop_uid="1", now=START)
    node.arrive(sop_uid="2", now=START + 9)
    assert node.complete(START + 18.9) == []
    (series,) = node.complete(START + 19)
    assert (series.state, len(series.names)) == (SeriesState.COMPLETE, 2)


def test_a_series_left_without_a_decision_is_offered_again(node: NodeFixture) -> None:
    node.arrive()
    assert node.complete(START + 10) == node.complete(START + 11)


def test_a_skipped_series_says_why(node: NodeFixture) -> None:
    node.arrive()
    (series,) = node.complete(START + 10)
    assert skip(node.ledger, series, reason="localizer", now=START + 10)
    assert (only(node).state, only(node).reason) == (SeriesState.SKIPPED, "localizer")


def test_an_image_that_comes_before_the_decision_is_not_forgotten(node: NodeFixture) -> None:
    node.arrive(sop_uid="1")
    (series,) = node.complete(START + 10)
    node.arrive(sop_uid="2", now=START + 11)
    assert not skip(node.ledger, series, reason="localizer", now=START + 12)
    assert only(node).state == SeriesState.ARRIVING
    (again,) = node.complete(START + 21)
    assert (again.generation, len(again.names)) == (2, 2)


def test_a_duplicate_does_not_reopen_a_series(node: NodeFixture) -> None:
    job = node.job()
    assert node.arrive(now=START + 50) is Recorded.DUPLICATE
    assert only(node).state == SeriesState.ENQUEUED
    assert node.complete(START + 1000) == []
    assert get_job(node.ledger, job.id).state == JobState.QUEUED


def test_a_late_slice_makes_one_more_job_for_all_slices(node: NodeFixture) -> None:
    first = node.job()
    node.claim_job()
    node.arrive(b"late", sop_uid="1.2.2", now=START + 50)
    (series,) = node.complete(START + 60)
    second = enqueued(node, series, START + 60)
    assert (first.generation, second.generation) == (1, 2)
    assert first.token != second.token
    assert len(source_names(node.ledger, first)) == 1
    assert len(source_names(node.ledger, second)) == 2
    assert get_job(node.ledger, first.id).state == JobState.DENOISING


def test_a_job_nobody_began_gives_way_to_the_next_generation(node: NodeFixture) -> None:
    first = node.job()
    node.arrive(b"late", sop_uid="1.2.2", now=START + 50)
    (series,) = node.complete(START + 60)
    enqueued(node, series, START + 60)
    superseded = get_job(node.ledger, first.id)
    assert superseded.state == JobState.CANCELLED
    assert superseded.reason == "its images are part of generation 2"


def purge(node: NodeFixture, now: float) -> list[str]:
    return purge_old_series(node.ledger, before=now - 100, now=now, remove=node.inbox.remove_images)


def finish(node: NodeFixture, now: float = START) -> None:
    node.claim_job(now).derived(1)
    delivery = node.claim_delivery(now=now)
    delivery.note_sent({"1.dcm": Sent("1.9.1", 0)})
    delivery.confirm()


def test_unfinished_work_is_never_purged(node: NodeFixture) -> None:
    node.job()
    assert purge(node, START + 10_000) == []
    finish(node)
    assert purge(node, START - 1) == []
    assert purge(node, START + 10_000) == ["1.2"]
    assert only(node).state == SeriesState.PURGED
    assert not any(node.inbox.root.rglob("*.dcm"))


def test_a_cancelled_job_is_owed_to_nobody(node: NodeFixture) -> None:
    job = node.job()
    cancel(node.ledger, job.id, now=START)
    assert purge(node, START + 10_000) == ["1.2"]


def test_a_purged_series_sent_again_makes_no_work_and_is_purged_again(node: NodeFixture) -> None:
    node.job()
    finish(node)
    purge(node, START + 10_000)
    assert node.arrive(now=START + 20_000) is Recorded.DUPLICATE
    assert only(node).state == SeriesState.PURGED
    assert len(only(node).names) == 1
    assert purge(node, START + 20_050) == []
    assert purge(node, START + 30_000) == ["1.2"]
    assert purge(node, START + 30_000) == []


def test_a_new_slice_of_a_purged_series_is_worked_on(node: NodeFixture) -> None:
    node.job()
    finish(node)
    purge(node, START + 10_000)
    assert node.arrive(b"late", sop_uid="1.2.2", now=START + 20_000) is Recorded.NEW
    (series,) = node.complete(START + 20_010)
    job = enqueued(node, series, START + 20_010)
    assert len(source_names(node.ledger, job)) == 1


def arrival(sop_uid: str, content: str = "a", series_uid: str = "1.2") -> Arrival:
    return Arrival(
        series_uid=series_uid,
        study_uid="1.1",
        sop_uid=sop_uid,
        sha256=content,
        name=f"{sop_uid}-{content}",
        size=1,
        source_ae="CTSCAN",
    )


def test_many_images_are_entered_at_once_and_each_gets_its_answer(node: NodeFixture) -> None:
    record_instances(node.ledger, [arrival("1")], now=START, exists=lambda _: True)
    batch = [
        arrival("1"),
        arrival("1", "other"),
        arrival("2"),
        arrival("2"),
        arrival("2", "other"),
        arrival("3"),
        arrival("1", series_uid="1.3"),
        arrival("9", series_uid="1.4"),
        replace(arrival("4"), study_uid="1.9"),
    ]
    answers = record_instances(
        node.ledger, batch, now=START + 5, exists=lambda item: item.sop_uid not in ("3", "9")
    )
    new, duplicate, conflict, gone, other = Recorded
    assert answers == [duplicate, conflict, new, duplicate, conflict, gone, new, gone, other]
    assert {item.series_uid: item.names for item in list_series(node.ledger)} == {
        "1.2": ("1-a", "2-a"),
        "1.3": ("1-a",),
    }


def test_late_slices_in_one_batch_make_one_generation(node: NodeFixture) -> None:
    node.job()
    late = [arrival("7"), arrival("8")]
    record_instances(node.ledger, late, now=START + 50, exists=lambda _: True)
    assert (only(node).generation, only(node).began_at) == (2, START + 50)


def test_a_series_with_a_gap_says_so_in_its_job(node: NodeFixture) -> None:
    node.arrive()
    (series,) = quiet_series(node.ledger, quiet_seconds=0, at_most_seconds=60, now=START)
    assert complete(node.ledger, series, gap="2 slices near 30 mm", forced=False, now=START)
    assert not complete(node.ledger, series, gap="", forced=True, now=START)
    assert enqueued(node, only(node), START).gap == "2 slices near 30 mm"


@pytest.mark.parametrize("forced", [False, True])
def test_what_came_meanwhile_keeps_a_series_open_unless_forced(
    node: NodeFixture, forced: bool
) -> None:
    node.arrive(sop_uid="1")
    (series,) = quiet_series(node.ledger, quiet_seconds=0, at_most_seconds=60, now=START)
    node.arrive(sop_uid="2", now=START)
    assert complete(node.ledger, series, gap="", forced=forced, now=START) is forced


def test_a_series_that_never_rests_is_offered_at_its_highest_age(node: NodeFixture) -> None:
    for second in range(0, 70, 5):
        node.arrive(sop_uid=str(second), now=START + second)
    seen = [
        len(quiet_series(node.ledger, quiet_seconds=10, at_most_seconds=60, now=START + age))
        for age in (59, 60)
    ]
    assert seen == [0, 1]


def test_a_clock_that_was_set_back_does_not_keep_a_series_waiting(node: NodeFixture) -> None:
    node.arrive(now=START + 3600)
    assert node.complete(START) == []
    assert [series.state for series in node.complete(START + 10)] == [SeriesState.COMPLETE]


def test_late_slices_alone_are_denoised(node: NodeFixture) -> None:
    first = node.job()
    node.claim_job()
    node.arrive(b"late", sop_uid="1.2.2", now=START + 50)
    second = enqueued(node, node.complete(START + 60)[0], START + 60)
    assert (second.since_generation, len(fresh_names(node.ledger, second))) == (1, 1)
    assert set(fresh_names(node.ledger, second)).isdisjoint(fresh_names(node.ledger, first))


@pytest.mark.parametrize(
    "other",
    [
        WorkOrder("man", 1.0, ("pacs",)),
        WorkOrder("identity", 0.5, ("pacs",)),
        WorkOrder("identity", 1.0, ("x",)),
        WorkOrder("identity", 1.0, ("pacs",), dose_gain=2.0),
        WorkOrder("identity", 1.0, ("pacs",), dose_gain="auto"),
        WorkOrder("identity", 1.0, ("pacs",), target_noise_hu=9.0),
    ],
)
def test_other_work_is_done_on_every_slice(node: NodeFixture, other: WorkOrder) -> None:
    node.job()
    node.claim_job()
    node.arrive(b"late", sop_uid="1.2.2", now=START + 50)
    second = enqueue(node.ledger, node.complete(START + 60)[0], other, now=START + 60)
    assert second is not None
    assert len(fresh_names(node.ledger, second)) == 2


def test_slices_of_a_job_that_failed_are_denoised_with_the_late_ones(node: NodeFixture) -> None:
    node.job()
    node.claim_job().fail("no")
    node.arrive(b"late", sop_uid="1.2.2", now=START + 50)
    second = enqueued(node, node.complete(START + 60)[0], START + 60)
    assert len(fresh_names(node.ledger, second)) == 2


def test_the_oldest_series_are_purged_first(node: NodeFixture) -> None:
    for number in range(3):
        cancel(node.ledger, node.job(series_uid=f"1.2.{number}", now=START + number).id, now=START)
    purged = purge_old_series(
        node.ledger, before=START + 9, now=START + 9, remove=node.inbox.remove_images, limit=2
    )
    assert purged == ["1.2.0", "1.2.1"]

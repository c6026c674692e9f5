"""Series in the ledger: arrival, quiet time, late slices, skipping, purging."""

from __future__ import annotations

from ledger_factory import START, NodeFixture

from dicom_node.ledger.arrivals import Recorded
from dicom_node.ledger.deliveries import Sent, claim_delivery, confirm, note_sent
from dicom_node.ledger.jobs import Work, claim, derived, enqueue, source_names
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import cancel, get_job
from dicom_node.ledger.purging import purge_old_series
from dicom_node.ledger.series import Series, list_series, skip
from dicom_node.ledger.states import JobState, SeriesState


def enqueued(node: NodeFixture, series: Series, now: float) -> Job:
    job = enqueue(node.ledger, series, Work("identity", 1.0, ["pacs"]), now=now)
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
    claim(node.ledger, owner="w", off_peak=False, now=START)
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
    return purge_old_series(node.ledger, before=now - 100, now=now, remove=node.inbox.remove_series)


def finish(node: NodeFixture, now: float = START) -> None:
    job = claim(node.ledger, owner="w", off_peak=False, now=now)
    assert job is not None
    derived(node.ledger, job.id, owner="w", count=1, now=now)
    delivery = claim_delivery(node.ledger, "pacs", owner="s", now=now)
    assert delivery is not None
    note_sent(node.ledger, delivery.id, owner="s", sent={"1.dcm": Sent("1.9.1", 0)}, now=now)
    confirm(node.ledger, delivery.id, owner="s", now=now)


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

"""Completion: quiet time, signs of missing images, the hard maximum, rules, late slices."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from support.ct_factory import make_series
from support.ledger_factory import START, House, NodeFixture
from support.workers import model_worker

from dicom_node.ct.headers import load
from dicom_node.housekeeping import completion
from dicom_node.housekeeping.completion import Completion
from dicom_node.ledger.deliveries import Sent
from dicom_node.ledger.jobs import enqueue
from dicom_node.ledger.model import Job
from dicom_node.ledger.operations import list_jobs
from dicom_node.ledger.purging import purge_old_series
from dicom_node.ledger.series import Series, list_series
from dicom_node.ledger.states import JobState, SeriesState
from dicom_node.rules import ReloadableRules
from dicom_node.settings import DerivedSettings, Settings
from dicom_node.work_order import Priority, WorkOrder

QUIET, GAP, AT_MOST = 10, 100, 1000


@pytest.fixture
def scan(tmp_path: Path) -> list[Path]:
    return make_series(tmp_path / "scan", slices=7)


@pytest.fixture
def node(tmp_path: Path) -> NodeFixture:
    return node_with(tmp_path, "")


def node_with(folder: Path, rules: str) -> NodeFixture:
    (folder / "rules.yaml").write_text(rules)
    return NodeFixture(
        folder,
        complete_after_seconds=QUIET,
        completion={"gap_after_seconds": GAP, "at_most_seconds": AT_MOST},
        rules=folder / "rules.yaml",
    )


def the_series(node: NodeFixture) -> Series:
    (series,) = list_series(node.ledger)
    return series


def jobs(node: NodeFixture) -> list[Job]:
    return sorted(list_jobs(node.ledger), key=lambda job: job.id)


def denoise(node: NodeFixture, now: float, settings: Settings | None = None) -> dict[str, bytes]:
    """Run the next job; its derived files by name."""
    assert model_worker(node, now, settings).work_once(lambda: False)
    token = next(job for job in reversed(jobs(node)) if job.state == JobState.DERIVED).token
    return {path.name: path.read_bytes() for path in node.outbox.committed(token)}


def test_a_series_with_a_hole_waits_longer_and_is_then_skipped_with_its_reason(
    node: NodeFixture, scan: list[Path]
) -> None:
    house = House(node)
    node.arrive_files(scan[:3] + scan[4:])
    house.complete_series(START + GAP - 1)
    assert the_series(node).state == SeriesState.ARRIVING
    house.complete_series(START + GAP)
    series = the_series(node)
    assert series.state == SeriesState.SKIPPED
    assert series.reason == "incomplete: 1 slice is missing between images 3 and 5"


def test_what_is_missing_may_still_come_while_it_waits(node: NodeFixture, scan: list[Path]) -> None:
    house = House(node)
    node.arrive_files(scan[:3] + scan[4:])
    house.complete_series(START + GAP - 1)
    node.arrive_files(scan[3:4], START + GAP - 1)
    house.complete_series(START + GAP + QUIET)
    (job,) = jobs(node)
    assert (job.generation, job.gap) == (1, "")


def test_a_rule_may_take_what_is_there_and_the_header_says_so(
    tmp_path: Path, scan: list[Path]
) -> None:
    node = node_with(tmp_path, "rules:\n- name: all\n  denoise: {incomplete: denoise}\n")
    node.arrive_files(scan[:3] + scan[4:])
    House(node).complete_series(START + GAP)
    (job,) = jobs(node)
    missing = "1 slice is missing between images 3 and 5"
    assert (job.gap, job.rule) == (missing, "all")
    files = denoise(node, START + GAP)
    assert sorted(files) == [f"{number:04d}.dcm" for number in (1, 2, 3, 5, 6, 7)]
    told = dcmread(node.outbox.committed(job.token)[0]).DerivationDescription
    assert str(told).endswith(f"The series was incomplete: {missing}.")
    report = json.loads((node.settings.reports_folder / f"{job.token}.json").read_text())
    assert report["missing"] == missing


def test_a_count_of_the_acquisition_lets_it_wait_and_no_more(
    node: NodeFixture, tmp_path: Path
) -> None:
    def count(dataset: object) -> None:
        dataset.ImagesInAcquisition = 99  # type: ignore[attr-defined]

    house = House(node)
    node.arrive_files(make_series(tmp_path / "counted", slices=3, change=count))
    house.complete_series(START + GAP - 1)
    assert jobs(node) == []
    house.complete_series(START + GAP)
    assert [job.gap for job in jobs(node)] == [""]


def test_nothing_waits_longer_than_the_hard_maximum(node: NodeFixture, scan: list[Path]) -> None:
    """A sender that repeats one image for ever cannot hold its series back."""
    house = House(node)
    for moment in range(0, AT_MOST + 1, QUIET - 1):
        node.arrive_files(scan[:4], START + moment)
        house.complete_series(START + moment)
        assert jobs(node) == []
    house.complete_series(START + AT_MOST)
    assert len(jobs(node)) == 1


def test_what_comes_after_the_hard_maximum_is_the_next_generation(
    node: NodeFixture, scan: list[Path]
) -> None:
    """Images that drip in, never quiet for long enough."""
    house = House(node)
    for moment in range(0, AT_MOST, QUIET - 1):
        node.arrive_files(scan[:5] if moment else scan[:1], START + moment)
        house.complete_series(START + moment)
    house.complete_series(START + AT_MOST)
    assert len(denoise(node, START + AT_MOST)) == 5
    node.arrive_files(scan[5:], START + AT_MOST + 1)
    house.complete_series(START + AT_MOST + 1 + QUIET)
    assert len(denoise(node, START + AT_MOST + 1 + QUIET)) == 2


def test_a_disk_that_is_away_is_no_reason_to_skip(node: NodeFixture, scan: list[Path]) -> None:
    """As with a network folder: here no further file can be opened for a while."""
    house = House(node)
    node.arrive_files(scan)
    house.complete_series(START)  # the ledger has its files open
    with no_more_files():
        house.complete_series(START + GAP)
    assert the_series(node).state == SeriesState.ARRIVING
    house.complete_series(START + GAP + 1)
    assert the_series(node).state == SeriesState.ENQUEUED


@contextmanager
def no_more_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_missing_file_delays_nothing_else(node: NodeFixture, scan: list[Path]) -> None:
    house = House(node)
    node.arrive_files(scan)
    node.inbox.path(the_series(node).names[0]).unlink()
    house.complete_series(START + GAP)
    assert the_series(node).state in (SeriesState.ENQUEUED, SeriesState.SKIPPED)


def test_a_waiting_series_is_read_once(
    node: NodeFixture, scan: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    house, read = House(node), []

    def counted(path: Path, *, pixels: bool) -> Dataset:
        read.append(path)
        return load(path, pixels=pixels)

    monkeypatch.setattr(completion, "load", counted)
    node.arrive_files(scan[:3] + scan[4:])
    for moment in range(QUIET, GAP):
        house.complete_series(START + moment)
    assert len(read) == 6


def test_late_slices_alone_are_denoised_and_join_the_same_series(
    node: NodeFixture, scan: list[Path]
) -> None:
    """The bytes are those of a series that came at once."""
    house = House(node)
    node.arrive_files(scan[:4])
    house.complete_series(START + QUIET)
    early = denoise(node, START + QUIET)
    node.arrive_files(scan, START + 3600)  # a router sends everything again, the rest with it
    house.complete_series(START + 3600 + QUIET)
    first, second = jobs(node)
    assert (second.generation, second.since_generation) == (2, 1)
    late = denoise(node, START + 3600 + QUIET)
    assert sorted(early) == [f"{number:04d}.dcm" for number in (1, 2, 3, 4)]
    assert sorted(late) == [f"{number:04d}.dcm" for number in (5, 6, 7)]
    files = (*node.outbox.committed(first.token), *node.outbox.committed(second.token))
    headers = [dcmread(path, stop_before_pixels=True) for path in files]
    assert len({str(header.SeriesInstanceUID) for header in headers}) == 1
    assert len({str(header.SOPInstanceUID) for header in headers}) == 7


def test_late_slices_never_stand_alone_when_the_settings_have_changed(
    node: NodeFixture, scan: list[Path]
) -> None:
    """Another model or label is another derived series, which has to be whole."""
    house = House(node)
    node.arrive_files(scan[:4])
    house.complete_series(START + QUIET)
    denoise(node, START + QUIET)
    node.arrive_files(scan[4:], START + 3600)
    house.complete_series(START + 3600 + QUIET)
    labels = DerivedSettings(description_suffix=" NEW")
    changed = node.settings.model_copy(update={"derived": labels})
    assert len(denoise(node, START + 3600 + QUIET, changed)) == 7


def test_late_slices_are_checked_against_the_whole_series(
    node: NodeFixture, scan: list[Path]
) -> None:
    """Alone they would look like an even series of their own."""
    house = House(node)
    node.arrive_files(scan[:3])
    house.complete_series(START + QUIET)
    denoise(node, START + QUIET)
    node.arrive_files(scan[4:], START + 100)
    house.complete_series(START + 100 + GAP)
    assert len(jobs(node)) == 1
    assert the_series(node).reason == "incomplete: 1 slice is missing between images 3 and 5"


def test_a_skipped_series_is_denoised_as_a_whole_once_the_rest_has_come(
    node: NodeFixture, scan: list[Path]
) -> None:
    house = House(node)
    node.arrive_files(scan[:3] + scan[4:])
    house.complete_series(START + GAP)
    node.arrive_files(scan[3:4], START + 3600)
    house.complete_series(START + 3600 + QUIET)
    (job,) = jobs(node)
    assert (job.generation, job.since_generation) == (2, 0)
    assert len(denoise(node, START + 3600 + QUIET)) == 7


def test_late_slices_of_a_series_that_retention_has_taken(
    node: NodeFixture, scan: list[Path]
) -> None:
    house = House(node)
    node.arrive_files(scan[:4])
    house.complete_series(START + QUIET)
    denoise(node, START + QUIET)
    finish(node)
    purged = purge_old_series(
        node.ledger, before=START + 500, now=START + 500, remove=node.inbox.remove_images
    )
    assert len(purged) == 1
    node.arrive_files(scan[4:], START + 3600)
    house.complete_series(START + 3600 + QUIET)
    late = denoise(node, START + 3600 + QUIET)
    assert sorted(late) == [f"{number:04d}.dcm" for number in (5, 6, 7)]
    told = dcmread(node.outbox.committed(jobs(node)[-1].token)[0]).DerivationDescription
    assert "its earlier images had left the node" in str(told)


def finish(node: NodeFixture) -> None:
    """The PACS takes what is derived."""
    delivery = node.claim_delivery("pacs", START + 50)
    sent = {
        path.name: Sent(sop_uid=path.name, status=0)
        for path in node.outbox.committed(delivery.delivery.token)
    }
    delivery.note_sent(sent)
    delivery.confirm()


def test_rules_decide_and_may_be_read_again(tmp_path: Path, scan: list[Path]) -> None:
    work = "{priority: off_peak, strength: 0.25, destinations: archive}"
    text = f"rules:\n- name: slow\n  source_ae: CTSCAN\n  denoise: {work}\n"
    node = node_with(tmp_path, text)
    rules = ReloadableRules(node.settings)
    sweep = Completion(node.ledger, node.inbox, node.settings, rules).complete_series
    node.arrive_files(scan)
    sweep(START + QUIET)
    (job,) = jobs(node)
    assert (job.rule, job.priority, job.strength) == ("slow", Priority.OFF_PEAK, 0.25)
    assert [delivery.destination for delivery in job.deliveries] == ["archive"]
    (tmp_path / "rules.yaml").write_text("rules:\n- name: none\n  skip: not today\n")
    assert rules.reload()
    node.arrive_files(make_series(tmp_path / "next", description="next"), START + 100)
    sweep(START + 100 + QUIET)
    newest = list_series(node.ledger)[0]
    assert (newest.state, newest.reason, newest.rule) == (
        SeriesState.SKIPPED, "not today", "none",
    )  # fmt: skip


def test_the_next_job_derives_what_a_failed_job_did_not(node: NodeFixture) -> None:
    """The second job relied on the first, which failed after all: the third relies on neither."""
    work, since, claims = WorkOrder("identity", 1.0, ("pacs",)), [], []
    for generation in (1, 2, 3):
        now = START + 1000 * generation
        node.arrive(b"image", sop_uid=f"1.2.{generation}", now=now - 100)
        (series,) = node.complete(now)
        job = enqueue(node.ledger, series, work, now=now)
        assert job is not None
        since.append(job.since_generation)
        claims.append(node.claim_job(now))
        if generation == 2:
            claims[0].fail("broken")
    assert since == [0, 1, 0]


def with_scout(folder: Path, slices: int = 5) -> list[Path]:
    """A series whose first image is a localizer."""

    def localizer(dataset: Dataset) -> None:
        if dataset.InstanceNumber == 1:
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    return make_series(folder, slices=slices, change=localizer)


def test_a_localizer_among_axial_images_is_left_out_and_reported(
    node: NodeFixture, tmp_path: Path
) -> None:
    node.arrive_files(with_scout(tmp_path / "scan"))
    House(node).complete_series(START + QUIET)
    remark = "1 localizer (scout) image was left out"
    assert (the_series(node).state, the_series(node).reason) == (SeriesState.ENQUEUED, remark)
    files = denoise(node, START + QUIET)
    assert sorted(files) == [f"{number:04d}.dcm" for number in (2, 3, 4, 5)]
    (job,) = jobs(node)
    report = json.loads((node.settings.reports_folder / f"{job.token}.json").read_text())
    assert report["remarks"] == [remark]


def test_late_slices_join_a_series_with_a_localizer(node: NodeFixture, tmp_path: Path) -> None:
    """Whether the localizer came before, with them or after: it is never denoised."""
    house, scan = House(node), with_scout(tmp_path / "scan", slices=6)
    node.arrive_files(scan[1:4])
    house.complete_series(START + QUIET)
    early = denoise(node, START + QUIET)
    node.arrive_files(scan[:1], START + 100)
    house.complete_series(START + 100 + QUIET)
    assert (the_series(node).state, len(jobs(node))) == (SeriesState.SKIPPED, 1)
    assert "localizer" in the_series(node).reason
    node.arrive_files(scan[4:], START + 200)
    house.complete_series(START + 200 + QUIET)
    late = denoise(node, START + 200 + QUIET)
    assert sorted(early) + sorted(late) == [f"{number:04d}.dcm" for number in (2, 3, 4, 5, 6)]
    uids = {
        dcmread(path, stop_before_pixels=True).SeriesInstanceUID
        for job in jobs(node)
        for path in node.outbox.committed(job.token)
    }
    assert len(uids) == 1


def test_a_late_localizer_leaves_a_waiting_job_alone(node: NodeFixture, tmp_path: Path) -> None:
    house, scan = House(node), with_scout(tmp_path / "scan")
    node.arrive_files(scan[1:])
    house.complete_series(START + QUIET)
    node.arrive_files(scan[:1], START + 100)
    house.complete_series(START + 100 + QUIET)
    (job,) = jobs(node)
    assert job.state == JobState.QUEUED
    assert len(denoise(node, START + 100 + QUIET)) == 4


def test_a_head_of_two_spacings_is_complete(node: NodeFixture, tmp_path: Path) -> None:
    def upper(dataset: Dataset) -> None:
        above = int(dataset.InstanceNumber) - 8
        if above >= 0:
            x, y, z = dataset.ImagePositionPatient
            dataset.SliceThickness = 5
            dataset.ImagePositionPatient = [x, y, z + 2.5 * (above + 1)]

    scan = make_series(tmp_path / "head", slices=12, change=upper)
    house = House(node)
    node.arrive_files(scan)
    house.complete_series(START + QUIET)
    assert the_series(node).state == SeriesState.ENQUEUED
    assert len(denoise(node, START + QUIET)) == 12


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "TemporalPositionIdentifier"])
def test_phases_at_equal_positions_are_all_denoised(
    node: NodeFixture, tmp_path: Path, keyword: str
) -> None:
    def phase(dataset: Dataset) -> None:
        number = int(dataset.InstanceNumber)
        setattr(dataset, keyword, 1 + (number - 1) // 3)
        x, y, _ = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, 2.5 * (number % 3)]

    node.arrive_files(make_series(tmp_path / "phases", slices=9, change=phase))
    House(node).complete_series(START + QUIET)
    assert sorted(denoise(node, START + QUIET)) == [f"{one:04d}.dcm" for one in range(1, 10)]


def test_indistinguishable_images_at_one_position_are_kept_with_a_sentence(
    node: NodeFixture, tmp_path: Path
) -> None:
    def copy(dataset: Dataset) -> None:
        if dataset.InstanceNumber == 4:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x, y, z - 2.5]

    files = make_series(tmp_path / "copies", slices=4, change=copy)
    node.arrive_files(files)
    House(node).complete_series(START + QUIET)
    model_worker(node, START + QUIET).work_once(lambda: False)
    (job,) = jobs(node)
    assert job.state == JobState.FAILED
    assert "remove copies" in job.reason
    assert all(node.inbox.path(name).is_file() for name in the_series(node).names)

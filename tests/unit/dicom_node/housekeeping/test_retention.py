"""Retention: by age and for disk space, and never of images that are still to be sent."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.ledger_factory import START, NodeFixture

from dicom_node.custody import UNKNOWN_SECONDS, Custody
from dicom_node.housekeeping.retention import REMIND_SECONDS, SECONDS_PER_DAY, Retention
from dicom_node.ledger.operations import cancel, list_jobs
from dicom_node.ledger.series import list_series
from dicom_node.ledger.states import SeriesState
from dicom_node.settings import GIB

SIZE = 100 * GIB


@dataclass
class Disk:
    """A disk of 100 GiB on which every image of the tests counts as 10 GiB."""

    node: NodeFixture
    others: int = 0

    @property
    def used(self) -> int:
        roots = (self.node.inbox.root, self.node.outbox.root)
        images = sum(1 for root in roots for path in root.rglob("*.dcm") if path.is_file())
        return 10 * GIB * images + self.others

    @property
    def free(self) -> int:
        return SIZE - self.used

    def __call__(self, _folder: Path) -> Disk:
        return self


def retention(node: NodeFixture, disk: Disk) -> Retention:
    custody = Custody(node.ledger, node.settings)
    return Retention(custody, node.inbox, node.outbox, node.settings, disk_usage=disk)


def finished(node: NodeFixture, uid: str, now: float) -> str:
    """A series with a result and nothing left to send; the token of its job."""
    token = unsent(node, uid, now)
    cancel(node.ledger, max(job.id for job in list_jobs(node.ledger)), now=now)
    return token


def unsent(node: NodeFixture, uid: str, now: float) -> str:
    """A series whose result has still to be sent."""
    job = node.job(series_uid=uid, now=now)
    claim = node.claim_job(now)
    staging = node.outbox.stage(job.token)
    (staging / "0001.dcm").write_bytes(b"derived")
    node.outbox.commit(job.token, staging)
    claim.derived(1)
    os.utime(node.outbox.root / job.token, (now, now))
    return job.token


def present(node: NodeFixture) -> set[str]:
    """The series that still have their images."""
    kept = [item for item in list_series(node.ledger) if item.state != SeriesState.PURGED]
    return {series.series_uid for series in kept}


def test_under_the_watermark_nothing_goes(node: NodeFixture) -> None:
    token = finished(node, "1.2", START)
    retention(node, Disk(node)).relieve_disk(START + 1)
    assert (node.outbox.tokens(), present(node)) == ({token}, {"1.2"})


def test_above_the_watermark_results_go_first_until_there_is_room(node: NodeFixture) -> None:
    tokens = [finished(node, f"1.{place}", START + 1000 * place) for place in range(4)]
    disk = Disk(node, others=15 * GIB)  # with 4 images and 4 results: 95 of 100 GiB
    retention(node, disk).relieve_disk(START + 10_000)
    assert node.outbox.tokens() == set(tokens[1:])  # the oldest is enough to be under 0.9
    assert present(node) == {"1.0", "1.1", "1.2", "1.3"}


def test_images_go_when_results_are_not_enough_the_oldest_first(
    node: NodeFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.housekeeping.retention.SERIES_PER_BATCH", 1)
    for place in range(3):
        finished(node, f"1.{place}", START + 1000 * place)
    retention(node, Disk(node, others=75 * GIB)).relieve_disk(START + 10_000)
    assert (node.outbox.tokens(), present(node)) == (set(), {"1.2"})


def test_what_is_owed_stays_on_a_full_disk_and_it_is_told_once_an_hour(
    node: NodeFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    token = unsent(node, "1.2", START)
    keeper = retention(node, Disk(node, others=80 * GIB))
    for later in (1.0, 10.0, REMIND_SECONDS + 2):
        keeper.relieve_disk(START + later)
    assert (node.outbox.tokens(), present(node)) == ({token}, {"1.2"})
    assert capsys.readouterr().out.count("disk full") == 2


def test_the_reserve_counts_as_well_as_the_watermark(node: NodeFixture) -> None:
    finished(node, "1.2", START)
    limits = node.settings.retention.model_copy(
        update={"disk_high_watermark": 1.0, "disk_reserve_gib": 30.0}
    )
    settings = node.settings.model_copy(update={"retention": limits})
    disk = Disk(node, others=60 * GIB)
    custody = Custody(node.ledger, settings)
    keeper = Retention(custody, node.inbox, node.outbox, settings, disk_usage=disk)
    keeper.relieve_disk(START + 1)
    assert (disk.free, present(node)) == (30 * GIB, {"1.2"})


def test_quarantine_and_reports_have_ages_of_their_own(node: NodeFixture) -> None:
    limits = node.settings.retention
    aside = node.settings.quarantine_folder / "series" / "image.dcm"
    report = node.settings.reports_folder / "token.json"
    for path in (aside, report):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"kept")
        os.utime(path, (START, START))
    keeper = retention(node, Disk(node))
    keeper.enforce_retention(START + (limits.quarantine_days - 1) * SECONDS_PER_DAY)
    assert (aside.exists(), report.exists()) == (True, True)
    keeper.enforce_retention(START + (limits.quarantine_days + 1) * SECONDS_PER_DAY)
    assert (aside.parent.exists(), report.exists()) == (False, True)
    keeper.enforce_retention(START + (limits.report_days + 1) * SECONDS_PER_DAY)
    assert not report.exists()


def test_a_report_half_written_is_swept_unless_its_job_is_in_hand(node: NodeFixture) -> None:
    job = node.job()
    node.claim_job()
    reports = node.settings.reports_folder
    reports.mkdir(parents=True)
    in_hand, dead = reports / f"{job.token}.json.12.part", reports / "dead.json.34.part"
    for path in (in_hand, dead):
        path.write_bytes(b"{")
    retention(node, Disk(node)).sweep_leftovers()
    assert (in_hand.exists(), dead.exists()) == (True, False)


def test_images_that_no_ledger_knows_are_set_aside_and_go_after_retention_days(
    node: NodeFixture,
) -> None:
    """A receiver died before it had recorded them, or the ledger is an older one."""
    known, stray = node.store(b"entered"), node.store(b"stray", series_uid="1.9")
    node.record(known)
    unknown = node.settings.unknown_folder / "inbox" / stray.name
    keeper, now = retention(node, Disk(node)), time.time()
    keeper.enforce_retention(now)
    assert stray.path.exists()  # it may still be entered
    for path in (known.path, stray.path):
        os.utime(path, (now - UNKNOWN_SECONDS - 1,) * 2)
    keeper.enforce_retention(now)
    assert (known.path.exists(), stray.path.parent.exists()) == (True, False)
    days = node.settings.retention.days * SECONDS_PER_DAY
    for later, kept in ((days - 60.0, True), (days + 60.0, False)):
        keeper.enforce_retention(now + later)
        assert unknown.is_file() is kept
    assert known.path.exists()


def test_a_series_that_goes_takes_no_image_along_that_the_ledger_does_not_know(
    node: NodeFixture,
) -> None:
    """The ledger was put back from a backup: it knows the series, but not its late slices."""
    finished(node, "1.2", START)
    late = node.store(b"late", series_uid="1.2", sop_uid="1.2.9")
    os.utime(late.path, (START, START))
    retention(node, Disk(node)).enforce_retention(time.time())
    assert present(node) == set()
    assert [path.name for path in node.settings.unknown_folder.rglob("*.dcm")] == [late.path.name]


def test_results_of_no_job_are_set_aside_and_go_when_the_disk_is_full(node: NodeFixture) -> None:
    """The ledger was put back from an older backup. Their images stay however full the disk is."""
    token, stray = unsent(node, "1.2", START), node.store(b"stray", series_uid="1.9")
    staging = node.outbox.stage("unknown")
    (staging / "0001.dcm").write_bytes(b"derived")
    node.outbox.commit("unknown", staging)
    for path in (stray.path, node.outbox.root / "unknown"):
        os.utime(path, (START, START))
    disk = Disk(node)
    keeper = retention(node, disk)
    keeper.enforce_retention(time.time())
    aside = node.settings.unknown_folder
    assert node.outbox.tokens() == {token}
    assert (aside / "outbox" / "unknown" / "0001.dcm").read_bytes() == b"derived"
    disk.others = 90 * GIB
    keeper.relieve_disk(time.time())
    assert not (aside / "outbox" / "unknown").exists()
    assert (aside / "inbox" / stray.name).exists()
